// SPDX-License-Identifier: Apache-2.0
//
// The engine of heap_growth_fuzzer with planted bugs, one at a time: it must notice each.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#include "fuzz/controls.h"
#include "fuzz/heap_growth_engine.h"

namespace hak_fuzz {
namespace {

using hak_test::AllocatorApi;

// Few blocks of each kind and no pauses, so that an input takes little time.
std::vector<uint8_t> ShortInput(uint64_t seed) {
  std::vector<uint8_t> input = RandomRecords(seed);
  for (size_t at = 0; at < input.size(); at += kRecord) {
    if (input[at] % 8 == 5) ++input[at];
    input[at + 3] %= 2;
  }
  return input;
}

void ExpectGrowth(const AllocatorApi &api, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunHeapGrowthInput(api, data, size); }, what, ShortInput, 8);
}

// The latest block, while it is live, for planted bugs. Most threads take turns, but not all.
std::mutex g_mutex;
unsigned char *g_last;
size_t g_last_size;

bool Strikes() { return StrikesOnceIn(100); }

// hak_malloc, after `change` was called with the previous block, or null.
void *MallocBehind(size_t size, void *(*change)(unsigned char *last, size_t last_size, size_t size)) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  void *other = g_last != nullptr ? change(g_last, g_last_size, size) : nullptr;
  if (other != nullptr) return other;
  g_last = static_cast<unsigned char *>(hak_malloc(size));
  g_last_size = size;
  return g_last;
}

void FreeOfLast(void *ptr) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (ptr == g_last) g_last = nullptr;
  hak_free(ptr);
}

const char *const kWritten = "a block was written by somebody else";

TEST(HeapGrowthControl, NothingPlanted) { ExpectGrowth({}, "nothing"); }

TEST(HeapGrowthControl, WritesIntoALiveBlock) {
  AllocatorApi api;
  api.free = FreeOfLast;
  api.malloc = [](size_t size) {
    return MallocBehind(size, [](unsigned char *last, size_t last_size, size_t) -> void * {
      if (Strikes()) last[last_size - 1] ^= 1;
      return nullptr;
    });
  };
  ExpectGrowth(api, kWritten);
}

// As if the pages of a live block were returned.
TEST(HeapGrowthControl, PageOfALiveBlockIsLost) {
  AllocatorApi api;
  api.free = FreeOfLast;
  api.malloc = [](size_t size) {
    return MallocBehind(size, [](unsigned char *last, size_t last_size, size_t) -> void * {
      if (last_size >= 30000 && last_size < 500000) memset(last + 3 * 4096, 0, 4096);
      return nullptr;
    });
  };
  ExpectGrowth(api, kWritten);
}

TEST(HeapGrowthControl, GivesABlockTwice) {
  AllocatorApi api;
  api.free = FreeOfLast;
  api.malloc = [](size_t size) {
    return MallocBehind(size, [](unsigned char *last, size_t last_size, size_t asked) -> void * {
      return asked == last_size && Strikes() ? last : nullptr;
    });
  };
  ExpectGrowth(api, kWritten);
}

TEST(HeapGrowthControl, ForgetsFrees) {
  AllocatorApi api;
  api.free = [](void *ptr) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (!Strikes()) hak_free(ptr);
  };
  ExpectGrowth(api, "blocks are left over");
}

TEST(HeapGrowthControl, ForgetsFreesByOtherThreads) {
  static std::unordered_map<void *, std::thread::id> owners;
  AllocatorApi api;
  api.malloc = [](size_t size) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    void *ptr = hak_malloc(size);
    owners[ptr] = std::this_thread::get_id();
    return ptr;
  };
  api.free = [](void *ptr) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (owners[ptr] == std::this_thread::get_id()) hak_free(ptr);
  };
  ExpectGrowth(api, "blocks are left over");
}

TEST(HeapGrowthControl, RefusesNowAndThen) {
  AllocatorApi api;
  api.malloc = [](size_t size) -> void * {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (!Strikes()) return hak_malloc(size);
    errno = ENOMEM;
    return nullptr;
  };
  ExpectGrowth(api, "no memory");
}

TEST(HeapGrowthControl, RecordsAreDamaged) {
  AllocatorApi api;
  api.heap_verify = [] { return false; };
  ExpectGrowth(api, "the heap's records are damaged");
}

TEST(HeapGrowthControl, NoStatistics) {
  AllocatorApi api;
  api.stats_get = [](hak_stats *) { return -1; };
  ExpectGrowth(api, "hak_stats_get fails");
}

}  // namespace
}  // namespace hak_fuzz
