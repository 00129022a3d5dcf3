// SPDX-License-Identifier: Apache-2.0
//
// Reads small files of the kernel.
#include "allocator/os/file.h"

#include "allocator/os/fault.h"
#include "allocator/os/sys_call.h"

size_t hak_os_read_file(const char *path, void *bytes, size_t size) {
  if (hak_fault_due(HAK_FAULT_ASK)) return 0;
  long file;
  do {
    file = hak_sys_open(path, O_RDONLY | O_CLOEXEC);
  } while (file == -EINTR);
  if (file < 0) return 0;
  size_t done = 0;
  // One read returns at most one page of such a file.
  while (done < size) {
    const long got = hak_sys_read((int)file, (char *)bytes + done, size - done);
    if (got > 0) {
      done += (size_t)got;
    } else if (got != -EINTR) {
      break;
    }
  }
  hak_sys_close((int)file);
  return done;
}
