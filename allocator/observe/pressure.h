// SPDX-License-Identifier: Apache-2.0
//
// Memory pressure: what happens when a request comes near a limit, or fails. One line on stderr says where the memory
// is (HAKMEM_AUTOPSY), and the program's callback is called (hak_pressure_set). Not in FAST, which has no limit.
//
// Nothing here allocates. The statistics behind the line take the allocator's locks one after another, as
// hak_stats_json does, so a call reports nothing while its thread holds such a lock: in a fork handler, or in a signal
// handler that interrupted the allocator. The callback is called under no lock.
#ifndef HAKMEM_OBSERVE_PRESSURE_H_
#define HAKMEM_OBSERVE_PRESSURE_H_

#include <hakmem/hakmem.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// Call it after free memory was returned to make room for a request of `size` bytes, before the request is tried again.
// Reports it if the request comes near a limit all the same. Preserves errno.
void hak_pressure_near(size_t size);
// Call it when a request of `size` bytes failed, before errno is set. True: the program's callback was called, so that
// there may be memory now.
bool hak_pressure_refused(size_t size);

// As hak_pressure_set.
void hak_pressure_listen(void (*callback)(const hak_pressure *pressure, void *context), void *context);

// Around fork, unless there is only one thread.
void hak_pressure_lock(void);
void hak_pressure_unlock(void);
// In the child: it is another process, which reports its own pressure.
void hak_pressure_forked(void);

HAK_C_END

#endif  // HAKMEM_OBSERVE_PRESSURE_H_
