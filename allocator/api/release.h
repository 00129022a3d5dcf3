// SPDX-License-Identifier: Apache-2.0
//
// Returns at once the memory that the calling thread can return.
#ifndef HAKMEM_API_RELEASE_H_
#define HAKMEM_API_RELEASE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Empties the calling thread's cache into its slabs.
void hak_release_thread(void);
// Also reclaims other threads' idle memory, and returns free slabs above `keep_bytes` and freed mappings to the
// operating system. Returns how many bytes.
size_t hak_release_all(size_t keep_bytes);
// The same before a request of `size` bytes is refused. Asks for a barrier on all threads only if a memory limit
// refuses the request and the heap's own memory could make way for it: a sandbox may forbid the call.
void hak_release_for(size_t size);
// The same where it was a limit that refused.
void hak_release_near_limit(size_t size);

HAK_C_END

#endif  // HAKMEM_API_RELEASE_H_
