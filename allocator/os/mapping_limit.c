// SPDX-License-Identifier: Apache-2.0
//
// Reads vm.max_map_count.
#include "allocator/os/mapping_limit.h"

#include "allocator/os/file.h"

uint64_t hak_os_mapping_limit_of(const char *text) {
  uint64_t limit = 0;
  // The kernel's number is an int.
  for (; *text >= '0' && *text <= '9' && limit <= INT32_MAX; text++) limit = limit * 10 + (uint64_t)(*text - '0');
  if (limit > INT32_MAX) return INT32_MAX;
  return limit != 0 ? limit : HAK_OS_MAPPING_LIMIT_DEFAULT;
}

uint64_t hak_os_mapping_limit(void) {
  char text[24];
  text[hak_os_read_file("/proc/sys/vm/max_map_count", text, sizeof text - 1)] = '\0';
  return hak_os_mapping_limit_of(text);
}
