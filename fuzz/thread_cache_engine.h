// SPDX-License-Identifier: Apache-2.0
//
// The slow side of the thread cache (thread_cache.h), against lists of the blocks in each bin before and after each
// call, and of those that the program holds.
//
// An input is a sequence of records of eight bytes:
//   byte 0    the step, see Step
//   byte 1    how many times
//   byte 2    the class
//   byte 3    the order in which blocks are freed
//   byte 4-5  where among the held blocks the frees begin; how much the caches may hold together
#ifndef HAKMEM_FUZZ_THREAD_CACHE_ENGINE_H_
#define HAKMEM_FUZZ_THREAD_CACHE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/heap/thread_cache.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct ThreadCacheCalls {
  void *(*miss)(hak_heap *heap, uint32_t class_id, bool *fresh) = hak_thread_cache_miss;
  void *(*borrow)(hak_heap *heap, uint32_t class_id) = hak_thread_cache_borrow;
  void (*overflow)(hak_heap *heap, uint32_t class_id, void *block) = hak_thread_cache_overflow;
  void (*flush_all)(hak_heap *heap) = hak_thread_cache_flush_all;
};

void RunThreadCacheInput(const ThreadCacheCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_THREAD_CACHE_ENGINE_H_
