// SPDX-License-Identifier: Apache-2.0
//
// <hakmem/compat/jemalloc.h> in C, optimised and with _FORTIFY_SOURCE: a program may use the whole real size of a
// block, also where the compiler knows the size that was requested. Exit code 0: all is well.
#include <hakmem/compat/jemalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds, const char *what) {
  if (holds) return;
  printf("FAILED: %s\n", what);
  exit(1);
}

static bool all_are(const unsigned char *bytes, size_t count, unsigned char value) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != value) return false;
  }
  return true;
}

int main(void) {
  static const int flags[] = {MALLOCX_ZERO, MALLOCX_ALIGN(4096) | MALLOCX_ZERO, MALLOCX_TCACHE_NONE | MALLOCX_ZERO};
  require(flags[1] == (12 | 0x40), "flags are constants");

  unsigned char *block = mallocx(100, 0);
  require(block != NULL, "a block");
  memset(block, 0x11, sallocx(block, 0));
  require(all_are(block, sallocx(block, 0), 0x11), "the whole block is the program's");

  const size_t before = sallocx(block, 0);
  block = rallocx(block, 3000, MALLOCX_ZERO);
  require(block != NULL, "a larger block");
  require(all_are(block, before, 0x11) && all_are(block + before, sallocx(block, 0) - before, 0), "it grew by zeros");
  memset(block, 0x22, sallocx(block, 0));
  sdallocx(block, 3000, 0);

  unsigned char *aligned = mallocx(1000, MALLOCX_LG_ALIGN(8) | MALLOCX_ZERO);
  require(aligned != NULL && ((uintptr_t)aligned & 255) == 0, "an aligned block");
  require(all_are(aligned, sallocx(aligned, 0), 0), "an aligned block is zero");
  memset(aligned, 0x33, sallocx(aligned, 0));
  require(xallocx(aligned, 1000, 1, 0) == sallocx(aligned, 0), "the real size");
  aligned = rallocx(aligned, 20000, MALLOCX_LG_ALIGN(8));
  require(aligned != NULL, "a larger aligned block");
  memset(aligned, 0x44, sallocx(aligned, 0));
  dallocx(aligned, 0);
  require(nallocx(SIZE_MAX, 0) == 0, "what overflows has no size");
  puts("C programs are served");
  return 0;
}
