// SPDX-License-Identifier: Apache-2.0
//
// Reads the memory limit of the process's control group.
#include "allocator/os/cgroup.h"

#include "allocator/os/bytes.h"
#include "allocator/os/file.h"

#define PATH_ROOM 1024u

// Static rather than on the stack, because an allocation may run on a small stack.
static char membership_text[PATH_ROOM];
static char folder[PATH_ROOM];

// Reads the beginning of the file into text[size], NUL-terminated; false: it cannot be read, or is empty.
static bool read_file(const char *path, char *text, size_t size) {
  const size_t got = hak_os_read_file(path, text, size - 1);
  text[got] = '\0';
  return got != 0;
}

// The limit in the file `name` of the folder folder[0 .. length); 0: none ("max"), no such file, or not a number.
// Restores folder.
static uint64_t limit_in(size_t length, const char *name) {
  const size_t name_length = hak_text_length(name);
  if (length + name_length + 2 > PATH_ROOM) return 0;
  folder[length] = '/';
  hak_bytes_copy(folder + length + 1, name, name_length + 1);
  char text[32];
  const bool known = read_file(folder, text, sizeof text);
  folder[length] = '\0';
  if (!known) return 0;
  uint64_t bytes = 0;
  const char *digit = text;
  for (; *digit >= '0' && *digit <= '9'; digit++) {
    if (__builtin_mul_overflow(bytes, 10, &bytes) || __builtin_add_overflow(bytes, (uint64_t)(*digit - '0'), &bytes)) {
      return 0;
    }
  }
  return *digit == '\n' || *digit == '\0' ? bytes : 0;
}

static uint64_t lower(uint64_t a, uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

uint64_t hak_os_cgroup_limit_in(const char *mount, const char *membership) {
  // The line for cgroup v2 is "0::/path"; the others are for v1.
  const char *line = membership;
  while (line != NULL && !hak_text_begins(line, "0::/")) {
    line = hak_text_find(line, "\n");
    if (line != NULL) line++;
  }
  if (line == NULL) return 0;
  const char *group = line + 3;
  const char *const group_end = hak_text_find(group, "\n");
  const size_t group_length = group_end != NULL ? (size_t)(group_end - group) : hak_text_length(group);
  const size_t mount_length = hak_text_length(mount);
  if (mount_length + group_length >= sizeof folder) return 0;
  hak_bytes_copy(folder, mount, mount_length);
  hak_bytes_copy(folder + mount_length, group, group_length);
  size_t length = mount_length + group_length;
  uint64_t limit = 0;
  // Goes from the group upwards. The last step is the mount point (inside a container the root of its namespace).
  for (;;) {
    while (length > mount_length && folder[length - 1] == '/') length--;
    folder[length] = '\0';
    limit = lower(limit, lower(limit_in(length, "memory.high"), limit_in(length, "memory.max")));
    if (length <= mount_length) return limit;
    while (length > mount_length && folder[length - 1] != '/') length--;
  }
}

uint64_t hak_os_cgroup_limit(void) {
  if (!read_file("/proc/self/cgroup", membership_text, sizeof membership_text)) return 0;
  return hak_os_cgroup_limit_in("/sys/fs/cgroup", membership_text);
}
