// SPDX-License-Identifier: Apache-2.0
//
// What the kernel told the process at its start: the auxiliary vector.
#ifndef HAKMEM_OS_AUXV_H_
#define HAKMEM_OS_AUXV_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_auxv_entry {
  HAK_AUXV_PAGE_SIZE,
  HAK_AUXV_SECURE,  // not 0: the program has rights that its caller has not
  HAK_AUXV_RANDOM,  // the address of 16 random bytes
  HAK_AUXV_VDSO,    // the address of the vDSO; 0: there is none
  HAK_AUXV_ENTRIES,
};

// Read once, from /proc, where no other library can come in between; where that is not to be had (no /proc, a process
// that may not be looked at) getauxval is asked. Thread-safe, takes no lock; leaves errno as it was.
uintptr_t hak_auxv(enum hak_auxv_entry entry);

HAK_C_END

#endif  // HAKMEM_OS_AUXV_H_
