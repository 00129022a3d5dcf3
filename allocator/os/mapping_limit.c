// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/mapping_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "allocator/os/fault.h"

uint64_t hak_os_mapping_limit_of(const char *text) {
  uint64_t limit = 0;
  // The kernel's number is an int.
  for (; *text >= '0' && *text <= '9' && limit <= INT32_MAX; text++) limit = limit * 10 + (uint64_t)(*text - '0');
  if (limit > INT32_MAX) return INT32_MAX;
  return limit != 0 ? limit : HAK_OS_MAPPING_LIMIT_DEFAULT;
}

uint64_t hak_os_mapping_limit(void) {
  const int saved = errno;
  char text[24] = {0};
  const int file = hak_fault_due(HAK_FAULT_ASK) ? -1 : open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) text[0] = '\0';
    close(file);
  }
  errno = saved;
  return hak_os_mapping_limit_of(text);
}
