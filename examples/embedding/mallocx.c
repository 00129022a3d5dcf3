// SPDX-License-Identifier: Apache-2.0
//
// A program that was written for jemalloc's functions with flags: only the line of the include is new.
#include <hakmem/compat/jemalloc.h>
#include <stdint.h>
#include <stdio.h>

int main(void) {
  const int flags = MALLOCX_ALIGN(4096) | MALLOCX_ZERO;
  unsigned char *page = mallocx(4096, flags);
  if (page == NULL) return 1;
  printf("%zu bytes may be used of %p\n", sallocx(page, 0), (void *)page);
  const int good = (uintptr_t)page % 4096 == 0 && page[0] == 0 && page[4095] == 0 && hak_owns(page);
  unsigned char *larger = rallocx(page, 100000, flags);
  if (larger == NULL) {
    dallocx(page, 0);
    return 1;
  }
  const int grown = larger[99999] == 0 && xallocx(larger, 100000, 0, 0) >= 100000;
  sdallocx(larger, 100000, flags);
  return good && grown && nallocx(1000, 0) >= 1000 ? 0 : 1;
}
