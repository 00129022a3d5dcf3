// SPDX-License-Identifier: Apache-2.0
//
// The auxiliary vector, which the kernel passes to the process at its start.
#ifndef HAKMEM_OS_AUXV_H_
#define HAKMEM_OS_AUXV_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_auxv_entry {
  HAK_AUXV_PAGE_SIZE,
  HAK_AUXV_SECURE,   // not 0: the program has privileges that its caller does not have
  HAK_AUXV_RANDOM,   // the address of 16 random bytes
  HAK_AUXV_VDSO,     // the address of the vDSO; 0: there is none
  HAK_AUXV_PROGRAM,  // the address of the path by which the program was started; 0: not known
  HAK_AUXV_ENTRIES,
};

// Read once, from /proc, so that no other library's wrapper is called. If that fails (no /proc, or a process that may
// not read its own files there), getauxval is called. Thread-safe; takes no lock; preserves errno.
uintptr_t hak_auxv(enum hak_auxv_entry entry);

HAK_C_END

#endif  // HAKMEM_OS_AUXV_H_
