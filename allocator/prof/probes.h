// SPDX-License-Identifier: Apache-2.0
//
// The probes by which a profiler outside the process, such as OpenTelemetry's, sees samples (usdt.h has their format).
// The contract is that of the design document "Memory Profiling" (00003) of opentelemetry-ebpf-profiler:
//   otel_memory:alloc(user, size, weighted_bytes)   a sampled allocation: the block, the bytes that were requested, and
//                                                   the bytes of all blocks that it stands for
//   otel_memory:free(ptr)                           the free of a sampled block
// The profiler walks the stacks itself. A probe that nobody traces is an instruction that does nothing.
#ifndef HAKMEM_PROF_PROBES_H_
#define HAKMEM_PROF_PROBES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// The kernel, or a debugger, changes them; relaxed: each stands for itself.
extern HAK_ATOMIC(uint16_t) hak_probe_alloc_semaphore;
extern HAK_ATOMIC(uint16_t) hak_probe_free_semaphore;

// Whether a tracer is attached to one of the probes. Relaxed: see there.
HAK_INLINE bool hak_probes_are_traced(void) {
  return (atomic_load_explicit(&hak_probe_alloc_semaphore, memory_order_relaxed) |
          atomic_load_explicit(&hak_probe_free_semaphore, memory_order_relaxed)) != 0;
}

// Call the first before another thread can free the block, and the second before another thread can get the address.
void hak_probe_alloc(const void *block, uint64_t size, uint64_t weighted_bytes);
void hak_probe_free(const void *block);

HAK_C_END

#endif  // HAKMEM_PROF_PROBES_H_
