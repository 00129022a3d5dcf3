// SPDX-License-Identifier: Apache-2.0
//
// The allocator under test as a table of functions, so that the same checks run on the real allocator and on variants
// of it with a planted bug.
#ifndef HAKMEM_ALLOCATOR_TESTS_ALLOCATOR_API_H_
#define HAKMEM_ALLOCATOR_TESTS_ALLOCATOR_API_H_

#include <hakmem/hakmem.h>
#include <stddef.h>

namespace hak_test {

struct AllocatorApi {
  void *(*malloc)(size_t size) = hak_malloc;
  void *(*calloc)(size_t count, size_t size) = hak_calloc;
  void *(*zalloc)(size_t size) = hak_zalloc;
  void *(*realloc)(void *ptr, size_t size) = hak_realloc;
  void *(*reallocarray)(void *ptr, size_t count, size_t size) = hak_reallocarray;
  void (*free)(void *ptr) = hak_free;
  void (*free_sized)(void *ptr, size_t size) = hak_free_sized;
  void (*free_aligned_sized)(void *ptr, size_t alignment, size_t size) = hak_free_aligned_sized;
  void *(*aligned_alloc)(size_t alignment, size_t size) = hak_aligned_alloc;
  void *(*aligned_calloc)(size_t alignment, size_t count, size_t size) = hak_aligned_calloc;
  void *(*aligned_realloc)(void *ptr, size_t alignment, size_t size) = hak_aligned_realloc;
  void *(*memalign)(size_t alignment, size_t size) = hak_memalign;
  int (*posix_memalign)(void **out, size_t alignment, size_t size) = hak_posix_memalign;
  size_t (*usable_size)(const void *ptr) = hak_usable_size;
  size_t (*good_size)(size_t size) = hak_good_size;
  void *(*realloc_in_place)(void *ptr, size_t size) = hak_realloc_in_place;
  bool (*owns)(const void *ptr) = hak_owns;
  size_t (*should_move)(void *const *blocks, size_t count, bool *move) = hak_should_move;
  void *(*malloc_nocache)(size_t size) = hak_malloc_nocache;
  void (*free_nocache)(void *ptr) = hak_free_nocache;
  void (*thread_flush)() = hak_thread_flush;
  size_t (*trim)(size_t keep_bytes) = hak_trim;
  int (*stats_get)(hak_stats *stats) = hak_stats_get;
  bool (*heap_verify)() = hak_heap_verify;
  size_t (*heap_visit)(bool (*visit)(const hak_block *block, void *context), void *context) = hak_heap_visit;
};

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_ALLOCATOR_API_H_
