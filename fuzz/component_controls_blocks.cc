// SPDX-License-Identifier: Apache-2.0
//
// As component_controls_test.cc, for the engines whose boxes hold blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <string>

#include "allocator/block/poison.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/heap/give_back.h"
#include "allocator/heap/remote.h"
#include "fuzz/block_lane_engine.h"
#include "fuzz/controls.h"
#include "fuzz/remote_queue_engine.h"
#include "fuzz/thread_cache_engine.h"

namespace hak_fuzz {
namespace {

// ---- Thread cache -------------------------------------------------------------------------------

void ExpectThreadCache(const ThreadCacheCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunThreadCacheInput(calls, data, size); }, what);
}

TEST(ThreadCacheControl, NothingPlanted) { ExpectThreadCache({}, "nothing"); }

TEST(ThreadCacheControl, OverflowDropsTheBlock) {
  ThreadCacheCalls calls;
  calls.overflow = [](hak_heap *heap, uint32_t class_id, void *block) {
    hak_thread_cache_overflow(heap, class_id, block);
    hak_bin *bin = &heap->cache.bins[class_id];
    atomic_store_explicit(&bin->top, atomic_load_explicit(&bin->top, memory_order_relaxed) - 1, memory_order_relaxed);
  };
  ExpectThreadCache(calls, "a bin has lost others than its oldest blocks, or their order");
}

TEST(ThreadCacheControl, MissGivesABlockThatStaysInTheBin) {
  ThreadCacheCalls calls;
  calls.miss = [](hak_heap *heap, uint32_t class_id, bool *fresh) {
    void *block = hak_thread_cache_miss(heap, class_id, fresh);
    void **top = atomic_load_explicit(&heap->cache.bins[class_id].top, memory_order_relaxed);
    return *top != nullptr ? *top : block;
  };
  ExpectThreadCache(calls, "a block that the program holds already");
}

TEST(ThreadCacheControl, MissOfTheNextClass) {
  ThreadCacheCalls calls;
  calls.miss = [](hak_heap *heap, uint32_t class_id, bool *fresh) {
    return hak_thread_cache_miss(heap, class_id % (HAK_CLASS_COUNT - 1) + 1, fresh);
  };
  ExpectThreadCache(calls, "cache_bytes is wrong");
}

TEST(ThreadCacheControl, FlushDoesNothing) {
  ThreadCacheCalls calls;
  calls.flush_all = [](hak_heap *) {};
  ExpectThreadCache(calls, "a bin is not empty after the flush");
}

TEST(ThreadCacheControl, OverflowWritesToABlock) {
  ThreadCacheCalls calls;
  calls.miss = [](hak_heap *heap, uint32_t class_id, bool *fresh) {
    static unsigned char *last;
    static hak_heap *heap_of_last;
    if (last != nullptr && heap_of_last == heap && StrikesOnceIn(7)) last[3] ^= 1;
    last = static_cast<unsigned char *>(hak_thread_cache_miss(heap, class_id, fresh));
    heap_of_last = heap;
    return static_cast<void *>(last);
  };
  ExpectThreadCache(calls, "a block that the program holds was written to");
}

// ---- Remote frees -------------------------------------------------------------------------------

void ExpectRemoteQueue(const RemoteQueueCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunRemoteQueueInput(calls, data, size); }, what);
}

// Blocks that do not arrive: their owner decides which check comes first.
const auto kLost =
    testing::AnyOf(std::string("an owner was not told of remote frees"),
                   std::string("a remote chain has another length"), std::string("remote blocks are miscounted"),
                   std::string("blocks got lost, or are there twice"), std::string("blocks got lost"));

TEST(RemoteQueueControl, NothingPlanted) { ExpectRemoteQueue({}, "nothing"); }

TEST(RemoteQueueControl, PushLost) {
  RemoteQueueCalls calls;
  calls.push = [](const hak_chain *chain) {
    const uint64_t bytes = uint64_t{chain->count} * chain->slab->stride;
    return StrikesOnceIn(7) ? bytes : hak_remote_push(chain);
  };
  ExpectRemoteQueue(calls, kLost);
}

TEST(RemoteQueueControl, ChainForgetsABlock) {
  RemoteQueueCalls calls;
  calls.chain_add = [](hak_chain *chain, void *block) {
    if (chain->count == 0 || !StrikesOnceIn(7)) hak_chain_add(chain, block);
  };
  ExpectRemoteQueue(calls, "a chain of another length");
}

TEST(RemoteQueueControl, PushTellsOtherBytes) {
  RemoteQueueCalls calls;
  calls.push = [](const hak_chain *chain) { return hak_remote_push(chain) + 16; };
  ExpectRemoteQueue(calls, "hak_remote_push tells other bytes");
}

TEST(RemoteQueueControl, DrainDoesNothing) {
  RemoteQueueCalls calls;
  calls.drain = [](hak_heap *) {};
  ExpectRemoteQueue(calls, "an owner was told of remote frees that are none");
}

TEST(RemoteQueueControl, GiveBackForgetsTheLast) {
  RemoteQueueCalls calls;
  calls.give_back = [](hak_heap *heap, void **blocks, uint32_t count) {
    if (count > 0) hak_give_back(heap, blocks, count - 1);
  };
  ExpectRemoteQueue(calls, kLost);
}

// ---- Links, headers and poison ------------------------------------------------------------------

void ExpectBlockLane(const BlockLaneCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunBlockLaneInput(calls, data, size); }, what);
}

TEST(BlockLaneControl, NothingPlanted) { ExpectBlockLane(BlockLaneCalls(), "nothing"); }

TEST(BlockLaneControl, LinkChanges) {
  BlockLaneCalls calls;
  calls.link_load = [](const void *block) { return BlockLaneCalls().link_load(block) & 0xFFF; };
  ExpectBlockLane(calls, HAK_FAST ? "a link changed" : "a forged link passes for a block");
}

TEST(BlockLaneControl, LinkReachesTheBlockBehind) {
  BlockLaneCalls calls;
  calls.link_store = [](void *block, uint32_t next) {
    memset(block, 0, 16 + 16);
    BlockLaneCalls().link_store(block, next);
  };
  ExpectBlockLane(calls, testing::Ne("nothing"));
}

TEST(BlockLaneControl, ForgedLinkPasses) {
  if (HAK_FAST) GTEST_SKIP() << "FAST's links are plain";
  BlockLaneCalls calls;
  calls.link_load = [](const void *block) {
    const uint64_t link = BlockLaneCalls().link_load(block);
    return link > 4096 ? link % 4096 : link;
  };
  ExpectBlockLane(calls, "a forged link passes for a block");
}

TEST(BlockLaneControl, EveryHeaderIsLive) {
  if (HAK_HEADER == HAK_HEADER_MODE_NONE) GTEST_SKIP() << "no headers in this build";
  BlockLaneCalls calls;
  calls.state = [](const void *, uint32_t) { return static_cast<int>(HAK_REGION_IS_LIVE); };
  ExpectBlockLane(calls, testing::Ne("nothing"));
}

TEST(BlockLaneControl, PoisonIsNotLookedAt) {
  if (!HAK_POISON_ON) GTEST_SKIP() << "no poison in this build";
  BlockLaneCalls calls;
  calls.poison_intact = [](const void *, size_t) { return true; };
  ExpectBlockLane(calls, "a write after free is not seen");
}

}  // namespace
}  // namespace hak_fuzz
