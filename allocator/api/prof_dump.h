// SPDX-License-Identifier: Apache-2.0
//
// Profiles that hakmem writes by itself (api/dump_triggers.c); include/hakmem/pprof.h has what programs call. None of
// these allocates or calls the dynamic linker. Do not call them while the thread holds one of the allocator's locks.
#ifndef HAKMEM_API_PROF_DUMP_H_
#define HAKMEM_API_PROF_DUMP_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Whether there is anything to write: the sampler is on, or was.
bool hak_prof_dump_has_samples(void);

// Whether the pattern describes a path (hak_pprof_path). False also while another thread writes.
bool hak_prof_dump_accepts(const char *pattern);

// Whether the pattern numbers the files.
bool hak_prof_dump_is_numbered(const char *pattern);

// hak_prof_dump; but %n stands for the next number whose file does not exist yet, and an error except EBUSY is also one
// line on stderr.
int hak_prof_dump_or_tell(const char *pattern);

HAK_C_END

#endif  // HAKMEM_API_PROF_DUMP_H_
