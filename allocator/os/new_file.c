// SPDX-License-Identifier: Apache-2.0
//
// Creates and removes files.
#include "allocator/os/new_file.h"

#include "allocator/os/auxv.h"
#include "allocator/os/fault.h"
#include "allocator/os/sys_call.h"

#define MODE 0600

HAK_COLD int hak_new_file_create(const char *path, int access) {
  if (hak_auxv(HAK_AUXV_SECURE) != 0) return -EPERM;
  const int flags = access | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  long file;
  do {
    file = hak_fault_due(HAK_FAULT_ASK) ? -ENOMEM : hak_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, MODE, 0, 0);
  } while (file == -EINTR);
  return (int)file;
}

HAK_COLD void hak_new_file_remove(const char *path) { hak_sys_call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0); }
