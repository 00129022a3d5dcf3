// SPDX-License-Identifier: Apache-2.0
//
// Remote frees (remote.h) and what becomes of them when heaps end and slabs are adopted, against sets of blocks. Two
// heaps and the orphanage, all worked by one thread: what the protocol does to its records. What threads do to it at
// once is heap_threads_fuzzer's.
//
// An input is a row of records of eight bytes:
//   byte 0    what is done, see Step
//   byte 1    which heap
//   byte 2    which class
//   byte 3    how many blocks
//   byte 4-5  where in what is held they begin
#ifndef HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_
#define HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/remote.h"

namespace hak_fuzz {

// What is tested; controls put something wrong in a place.
struct RemoteQueueCalls {
  void (*chain_add)(hak_chain *chain, void *block) = hak_chain_add;
  uint64_t (*push)(const hak_chain *chain) = hak_remote_push;
  void (*give_back)(hak_heap *heap, void **blocks, uint32_t count) = hak_give_back;
  void (*drain)(hak_heap *heap) = hak_remote_drain;
};

void RunRemoteQueueInput(const RemoteQueueCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_
