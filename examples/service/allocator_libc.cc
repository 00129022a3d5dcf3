// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include "allocator.h"

namespace kv {

std::string AllocatorName() { return "libc"; }

void WriteAllocatorMetrics(PrometheusText *out) {
#if __GLIBC_PREREQ(2, 33)
  const struct mallinfo2 info = mallinfo2();
#else
  const struct mallinfo info = mallinfo();
#endif
  out->Gauge("libc_malloc_arena_bytes", "Memory of the arenas.", info.arena);
  out->Gauge("libc_malloc_live_bytes", "Bytes of blocks that the program holds in the arenas.", info.uordblks);
  out->Gauge("libc_malloc_free_bytes", "Bytes of free blocks in the arenas.", info.fordblks);
  out->Gauge("libc_malloc_mapped_bytes", "Bytes of blocks with mappings of their own.", info.hblkhd);
}

HeapProfile TakeHeapProfile() { return {501, "text/plain; charset=utf-8", "libc's malloc has no heap profiler\n"}; }

bool MarkHeapProfile() { return false; }

}  // namespace kv
