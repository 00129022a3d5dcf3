// SPDX-License-Identifier: Apache-2.0
//
// hak_stats_json: valid JSON in the caller's buffer, whose counts add up, to what a walk over the heap sees and to
// hak_stats. This program's own malloc is not hakmem's.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/idle_worker.h"
#include "allocator/test/many_blocks.h"
#include "allocator/test/probe.h"
#include "allocator/test/strict_json.h"
#include "allocator/test/test_random.h"

namespace {

using hak_test::AllocateMany;
using hak_test::FreeAll;
using hak_test::FreeHalf;
using hak_test::Json;
using hak_test::JsonReader;
using hak_test::Random;
using hak_test::Worker;

std::string Text() {
  std::vector<char> buffer(HAK_STATS_TEXT_BYTES, '?');
  const size_t length = hak_stats_json(buffer.data(), buffer.size());
  EXPECT_LT(length, buffer.size());
  EXPECT_EQ(strlen(buffer.data()), length);
  return buffer.data();
}

// An object without members if the text is wrong.
Json Read(const std::string &text) {
  try {
    return JsonReader(text).Read();
  } catch (const std::runtime_error &error) {
    ADD_FAILURE() << error.what();
    return Json();
  }
}

// The ranges of sizes of large blocks: four times as much each.
size_t RangeOf(uint64_t usable) {
  size_t range = 0;
  for (uint64_t end = 65536; range < 8 && usable > end; end *= 4) ++range;
  return range;
}

// What a walk over the heap sees.
struct Walk {
  std::map<uint64_t, uint64_t> classes;  // bytes of a block -> live blocks
  uint64_t blocks[9] = {};
  uint64_t bytes[9] = {};
  uint64_t all = 0;
};

bool Note(const hak_block *block, void *context) {
  auto *walk = static_cast<Walk *>(context);
  ++walk->all;
  if (block->class_size != 0) {
    ++walk->classes[block->class_size];
  } else {
    ++walk->blocks[RangeOf(block->usable_size)];
    walk->bytes[RangeOf(block->usable_size)] += block->usable_size;
  }
  return true;
}

struct Sums {
  uint64_t live = 0, cached = 0, remote = 0, free = 0, fresh = 0, slabs = 0, bytes = 0;
};

// In builds with guards a block's usable size is the request, so the bytes of its class are more.
bool IsGuardedBuild() { return strstr(hak_version(), " observe ") != nullptr || hak_test::IsHardenedBuild(); }

Sums CheckClasses(const Json &json, const Walk &walk) {
  Sums sums;
  uint64_t last = 0;
  size_t seen = 0;
  for (const Json &of : json["classes"].array) {
    const uint64_t size = of["block_bytes"].Number();
    const uint64_t slabs = of["slabs"].Number();
    EXPECT_GT(size, last);
    last = size;
    EXPECT_EQ(of.object.size(), 7u);
    const auto at = walk.classes.find(size);
    EXPECT_EQ(of["live_blocks"].Number(), at == walk.classes.end() ? 0 : at->second) << size;
    if (at != walk.classes.end()) ++seen;
    const uint64_t all = of["live_blocks"].Number() + of["cached_blocks"].Number() + of["remote_blocks"].Number() +
                         of["free_blocks"].Number() + of["fresh_blocks"].Number();
    // Of the 64 KiB, records and guards take at most 16 KiB, and headers a byte for each block and one in front of
    // them.
    EXPECT_LE(all, slabs * (65536 / size));
    EXPECT_GE(all, slabs * (49151 / (size + 1)));
    sums.live += of["live_blocks"].Number();
    sums.cached += of["cached_blocks"].Number();
    sums.remote += of["remote_blocks"].Number();
    sums.free += of["free_blocks"].Number();
    sums.fresh += of["fresh_blocks"].Number();
    sums.slabs += slabs;
    sums.bytes += of["live_blocks"].Number() * size;
  }
  EXPECT_EQ(seen, walk.classes.size()) << "a class is missing";
  return sums;
}

void CheckLarge(const Json &json, const Walk &walk, Sums *sums) {
  const std::vector<Json> &large = json["large"].array;
  const uint64_t empty = json["process"]["empty_blocks"].Number();
  ASSERT_EQ(large.size(), 9u);
  for (size_t range = 0; range < large.size(); ++range) {
    if (range + 1 < large.size()) {
      EXPECT_EQ(large[range]["up_to_bytes"].Number(), uint64_t{65536} << (2 * range));
    } else {
      EXPECT_EQ(large[range]["up_to_bytes"].kind, Json::kNull);
    }
    EXPECT_EQ(large[range]["blocks"].Number() + (range == 0 ? empty : 0), walk.blocks[range]) << range;
    EXPECT_EQ(large[range]["bytes"].Number(), walk.bytes[range]) << range;
    sums->live += large[range]["blocks"].Number();
    sums->bytes += large[range]["bytes"].Number();
  }
  sums->live += empty;
}

void CheckProcess(const Json &process, const Sums &sums) {
  const hak_stats stats = hak_test::Stats();
  EXPECT_EQ(process["threads"].Number(), stats.threads);
  EXPECT_EQ(process["live_blocks"].Number(), stats.live_blocks);
  EXPECT_EQ(process["live_bytes"].Number(), stats.live_bytes);
  EXPECT_EQ(process["cached_bytes"].Number(), stats.cached_bytes);
  EXPECT_EQ(process["mapped_bytes"].Number(), stats.mapped_bytes);
  EXPECT_EQ(process["committed_bytes"].Number(), stats.committed_bytes);
  EXPECT_EQ(process["purged_bytes"].Number(), stats.purged_bytes);
  EXPECT_EQ(process["decommits"].Number(), stats.decommits);
  EXPECT_EQ(process["large_bytes"].Number(), stats.large_bytes);
  EXPECT_EQ(process["os_calls"].Number(), stats.os_calls) << "the call makes no memory call";
  EXPECT_EQ(process["longest_lock_wait_us"].Number(), stats.longest_lock_wait_us);
  EXPECT_GT(process["resident_bytes"].Number(), 0u);
  EXPECT_EQ(sums.live, stats.live_blocks);
  EXPECT_EQ(sums.cached, stats.cached_blocks);
  EXPECT_EQ(sums.slabs, stats.slabs_used);
  if (IsGuardedBuild()) {
    EXPECT_GE(sums.bytes, stats.live_bytes);
  } else {
    EXPECT_EQ(sums.bytes, stats.live_bytes);
  }
}

// Checks all of the text. While nobody else is in the allocator.
Sums Check(size_t live) {
  const Json json = Read(Text());
  if (json.kind != Json::kObject) return Sums();
  Walk walk;
  hak_heap_visit(Note, &walk);
  EXPECT_EQ(walk.all, live);
  EXPECT_EQ(json["version"].Number(), 1u);
  EXPECT_EQ(json["build"].string, hak_version());
  Sums sums = CheckClasses(json, walk);
  CheckLarge(json, walk, &sums);
  CheckProcess(json["process"], sums);
  return sums;
}

TEST(StatsJson, AddsUpWhereverBlocksAre) {
  Random random(hak_test::TestSeed(0x5ee1));
  std::vector<void *> mine = AllocateMany(&random, 3000, 60000);
  std::vector<void *> theirs;
  Sums most;
  const auto check = [&] {
    const Sums sums = Check(mine.size() + theirs.size());
    most.cached = std::max(most.cached, sums.cached);
    most.remote = std::max(most.remote, sums.remote);
    most.free = std::max(most.free, sums.free);
    most.fresh = std::max(most.fresh, sums.fresh);
  };
  check();
  {
    Worker worker;
    worker.Do([&] { theirs = AllocateMany(&random, 3000, 60000); });
    for (int round = 0; round < 3; ++round) {
      check();
      theirs = FreeHalf(theirs, &random);
      check();
      worker.Do([&] { mine = FreeHalf(mine, &random); });
      check();
      hak_thread_flush();
      check();
      // A slow call of the owner collects a part of the chains.
      worker.Do([&] { theirs.push_back(hak_malloc(20000 + static_cast<size_t>(round) * 3000)); });
      check();
      worker.Do([] { hak_thread_flush(); });
      check();
      if (round == 1) hak_trim(0);
    }
  }
  check();
  EXPECT_GT(most.cached, 100u);
  EXPECT_GT(most.remote, 100u);
  EXPECT_GT(most.free, 100u);
  EXPECT_GT(most.fresh, 100u);
  FreeAll(mine);
  FreeAll(theirs);
  mine.clear();
  theirs.clear();
  check();
}

// A chain that is too long for one slow call of its owner.
TEST(StatsJson, AChainThatIsPartlyCollected) {
  std::vector<void *> blocks;
  Worker worker;
  worker.Do([&] {
    for (int i = 0; i < 20000; ++i) blocks.push_back(hak_malloc(i % 2 == 0 ? 16 : 48));
  });
  Check(blocks.size());
  FreeAll(blocks);
  hak_thread_flush();
  Check(0);
  for (size_t size = 1000; size < 30000; size += 1000) {
    worker.Do([&] { hak_free(hak_malloc(size)); });
    Check(0);
  }
}

TEST(StatsJson, LargeBlocksBySize) {
  std::vector<void *> blocks;
  for (size_t size = 40000; size < size_t{300} << 20; size += size / 3) {
    blocks.push_back(hak_malloc(size));
    ASSERT_NE(blocks.back(), nullptr);
  }
  // The last byte of a range, and the first one of the next.
  for (size_t size = 65536 - 4096; size < 65536 + 8192; size += 512) {
    blocks.push_back(hak_aligned_alloc(4096, size));
    blocks.push_back(hak_malloc(hak_good_size(size)));
  }
  Check(blocks.size());
  Random random(hak_test::TestSeed(0x1a46e));
  blocks = FreeHalf(blocks, &random);
  Check(blocks.size());
  FreeAll(blocks);
  Check(0);
}

TEST(StatsJson, TheBufferMayBeTooSmall) {
  const std::string whole = Text();
  // resident_bytes may have another number of digits by then.
  const size_t slack = 20;
  EXPECT_NEAR(static_cast<double>(hak_stats_json(nullptr, 0)), static_cast<double>(whole.size()), slack);
  for (size_t size : {size_t{0}, size_t{1}, size_t{2}, size_t{100}, size_t{101}, whole.size() - slack}) {
    std::vector<char> buffer(size + 8, '?');
    EXPECT_NEAR(static_cast<double>(hak_stats_json(buffer.data(), size)), static_cast<double>(whole.size()), slack);
    const size_t written = size == 0 ? 0 : size - 1;
    EXPECT_EQ(std::string(buffer.data(), std::min(written, size_t{100})),
              whole.substr(0, std::min(written, size_t{100})));
    if (size != 0) {
      EXPECT_EQ(strlen(buffer.data()), written);
    }
    EXPECT_EQ(std::string(&buffer[size], 8), "????????") << size;
  }
}

TEST(StatsJson, TheLongestTextFits) {
  std::string longest;
  bool in_number = false;
  for (const char c : Text()) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) longest += c;
    if (digit && !in_number) longest += std::to_string(UINT64_MAX);
    in_number = digit;
  }
  EXPECT_LT(longest.size(), size_t{HAK_STATS_TEXT_BYTES});
}

TEST(StatsJson, Limits) {
  const auto limits = [] { return Read(Text())["limits"]; };
  const Json before = limits();
  EXPECT_EQ(before["memory_bytes"].kind, Json::kNull);
  const Json &group = before["control_group_bytes"];
  if (group.kind == Json::kNumber) {
    EXPECT_EQ(before["purge_at_bytes"].Number(), group.number - group.number / 8);
  } else {
    EXPECT_EQ(before["purge_at_bytes"].kind, Json::kNull);
  }
  const uint64_t limit = uint64_t{1} << 30;
  if (hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "1024") != 0) {
    EXPECT_TRUE(hak_test::IsFastBuild());
    return;
  }
  const Json now = limits();
  EXPECT_EQ(now["memory_bytes"].Number(), limit);
  const uint64_t lower = group.kind == Json::kNumber && group.number < limit ? group.number : limit;
  EXPECT_EQ(now["purge_at_bytes"].Number(), lower - lower / 8);
  EXPECT_EQ(hak_config_set("HAKMEM_MEMORY_LIMIT_MB", "0"), 0);
  EXPECT_EQ(limits()["memory_bytes"].kind, Json::kNull);
}

TEST(StatsJson, WhileOthersAllocateAndFree) {
  std::atomic<unsigned> ended{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Random random(hak_test::TestSeed(0x0a12) + t);
      for (int round = 0; round < (hak_test::kSlowBuild ? 40 : 300); ++round) {
        FreeAll(AllocateMany(&random, 200, 60000));
        if (random.Index(8) == 0) hak_trim(0);
      }
      ended.fetch_add(1, std::memory_order_relaxed);
    });
  }
  do {
    const Json json = Read(Text());
    ASSERT_EQ(json.kind, Json::kObject);
    for (const Json &of : json["classes"].array) {
      // A count below zero would be a large number.
      for (const auto &[name, value] : of.object) ASSERT_LT(value.Number(), uint64_t{1} << 32) << name;
    }
  } while (ended.load(std::memory_order_relaxed) < threads.size());
  for (std::thread &thread : threads) thread.join();
  Check(0);
}

}  // namespace
