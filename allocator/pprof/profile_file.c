// SPDX-License-Identifier: Apache-2.0
//
// Names, writes and closes a profile's file.
#include "allocator/pprof/profile_file.h"

#include "allocator/os/fault.h"
#include "allocator/os/new_file.h"
#include "allocator/os/sys_call.h"

struct path {
  char *text;
  size_t size;
  size_t length;  // also of what did not fit
};

static void put(struct path *path, char character) {
  if (path->length < path->size) path->text[path->length] = character;
  path->length++;
}

static void put_number(struct path *path, uint64_t value) {
  uint64_t unit = 1;
  while (value / unit >= 10) unit *= 10;
  for (; unit != 0; unit /= 10) put(path, (char)('0' + value / unit % 10));
}

HAK_COLD bool hak_pprof_path(char *path, size_t size, const char *pattern, uint64_t pid, uint64_t number) {
  struct path to = {.text = path, .size = size};
  bool is_good = true;
  for (; *pattern != '\0' && is_good; pattern++) {
    if (*pattern != '%') {
      put(&to, *pattern);
      continue;
    }
    pattern++;
    if (*pattern == 'p') {
      put_number(&to, pid);
    } else if (*pattern == 'n') {
      put_number(&to, number);
    } else if (*pattern == '%') {
      put(&to, '%');
    } else {
      is_good = false;
      break;
    }
  }
  put(&to, '\0');
  is_good = is_good && to.length <= size;
  if (!is_good && size != 0) path[0] = '\0';
  return is_good;
}

HAK_COLD int hak_pprof_write(void *context, const void *bytes, size_t size) {
  const int file = *(const int *)context;
  const char *from = bytes;
  while (size != 0) {
    const long wrote = hak_fault_due(HAK_FAULT_ASK) ? -ENOMEM : hak_sys_write(file, from, size);
    if (wrote > 0) {
      from += wrote;
      size -= (size_t)wrote;
    } else if (wrote != -EINTR) {
      // A device that takes nothing and gives no reason is as good as full.
      return wrote == 0 ? ENOSPC : (int)-wrote;
    }
  }
  return 0;
}

HAK_COLD int hak_pprof_close(int file, const char *path, int error) {
  // Only here do some network file systems tell that a write failed. Linux closes the file even then.
  const long closed = hak_sys_call(SYS_close, file, 0, 0, 0, 0, 0);
  if (error == 0 && closed < 0 && closed != -EINTR) error = (int)-closed;
  if (error != 0) hak_new_file_remove(path);
  return error;
}
