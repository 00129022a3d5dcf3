// SPDX-License-Identifier: Apache-2.0
//
// The lock on the records of mappings, and the calls of the kernel that take too long to be made under it: to unmap a
// gibibyte takes a tenth of a second and more. Whoever makes one takes its record out of every list first, steps out of
// the lock for the call, and enters what came of it afterwards. Fork waits for such calls, so that no child inherits a
// range of addresses that is nobody's.
#ifndef HAKMEM_LARGE_MAPPING_LOCK_H_
#define HAKMEM_LARGE_MAPPING_LOCK_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Memory that one call of the kernel gives back, so that others' calls come in between: a multiple of every page size,
// huge ones too.
#define HAK_MAPPING_SLICE ((size_t)16 * 1024 * 1024)

void hak_mapping_lock(void);
void hak_mapping_unlock(void);
// Between two steps of long work: whoever sleeps for the lock has it first.
void hak_mapping_pass(void);

// Steps out of the lock for a call of the kernel, and in again with what it returned. False: a fork waits, or is under
// way, and the call is made under the lock. For who steps out every list may have changed afterwards.
bool hak_mapping_step_out(void);
void hak_mapping_step_in(bool out);

// Around fork. Locked: no such call is under way.
void hak_mapping_lock_for_fork(void);
void hak_mapping_unlock_after_fork(void);

HAK_C_END

#endif  // HAKMEM_LARGE_MAPPING_LOCK_H_
