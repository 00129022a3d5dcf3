// SPDX-License-Identifier: Apache-2.0
//
// Sampled blocks: how the slow paths count allocations and recognise the frees of sampled blocks, while HAKMEM_PROF is
// on.
//
// The thread's calls are then watched (api/watch.h), so that all of them come to the slow paths, which pop from the
// real caches and count. Where nothing is sampled, the fast paths know nothing of it.
//
// In STANDARD a sampled block comes from the page heap, whatever its size: the slab map has no class for its address,
// so that its free comes to the slow path by itself, also after HAKMEM_PROF was switched off, and the tag of its page
// says that it is sampled. In OBSERVE and HARDENED, where every block has a canary that depends on its kind, it is a
// block like others. There the calls stay watched for as long as there are sampled blocks, and each free looks in the
// table.
#ifndef HAKMEM_API_SAMPLED_H_
#define HAKMEM_API_SAMPLED_H_

#include "allocator/os/base.h"
#include "allocator/prof/sampler.h"

HAK_C_BEGIN

// Counts a block of `size` bytes that the calling thread is about to allocate. True: it is sampled.
HAK_NOINLINE bool hak_sampled_count(size_t size);
HAK_INLINE bool hak_is_sampled(size_t size) {
  return HAK_PROF && HAK_UNLIKELY(hak_sampler_is_on()) && hak_sampled_count(size);
}

// STANDARD: a sampled block for the request. NULL: there is no memory for one, and errno is unchanged. `caller`: where
// the program called the allocator, or one of the allocator's own frames.
HAK_COLD void *hak_sampled_take(size_t size, size_t align, bool zero, const void *caller);
// OBSERVE and HARDENED: notes a block for which hak_is_sampled said true. NULL: nothing is done. Returns the block.
HAK_COLD void *hak_sampled_note(void *block, size_t size, const void *caller);

// Call it before a block is freed that may be sampled: in STANDARD a large one, otherwise any.
HAK_COLD void hak_sampled_forget(const void *block);

// STANDARD. Whether realloc to `size` bytes leaves the block where it is because it is sampled and a block of its class
// would stay: then it must, too. Otherwise sampled blocks would be lost among those that stay, and estimates too low.
HAK_COLD bool hak_sampled_serves(const void *block, size_t size);

// hak_large_resize for a block that may be sampled: the block of the old size is freed, and that of the new size counts
// as allocated.
HAK_NOINLINE void *hak_sampled_resize(void *block, size_t size, bool may_move, const void *caller);

// The same for a block that was resized otherwise and kept its address.
HAK_COLD void hak_sampled_renew(void *block, size_t size, const void *caller);

HAK_C_END

#endif  // HAKMEM_API_SAMPLED_H_
