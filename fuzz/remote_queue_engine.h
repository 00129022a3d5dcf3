// SPDX-License-Identifier: Apache-2.0
//
// Remote frees (remote.h), also when heaps end and slabs are adopted, against sets of blocks. One thread works on two
// heaps and the orphanage, to test the protocol's records. heap_threads_fuzzer tests concurrent threads.
//
// An input is a sequence of records of eight bytes:
//   byte 0    the step, see Step
//   byte 1    which heap
//   byte 2    which class
//   byte 3    how many blocks
//   byte 4-5  where among the held blocks they begin
#ifndef HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_
#define HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/heap/give_back.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/remote.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct RemoteQueueCalls {
  void (*chain_add)(hak_chain *chain, void *block) = hak_chain_add;
  uint64_t (*push)(const hak_chain *chain) = hak_remote_push;
  void (*give_back)(hak_heap *heap, void **blocks, uint32_t count) = hak_give_back;
  void (*drain)(hak_heap *heap) = hak_remote_drain;
};

void RunRemoteQueueInput(const RemoteQueueCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_REMOTE_QUEUE_ENGINE_H_
