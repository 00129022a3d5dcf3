// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/meta.h"

#include <gtest/gtest.h>
#include <string.h>

#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::IsZero;
using hak_unit::Random;

TEST(Meta, UsableIsTheNextPowerOfTwoFrom64On) {
  EXPECT_EQ(hak_meta_usable(0), 64u);
  EXPECT_EQ(hak_meta_usable(1), 64u);
  EXPECT_EQ(hak_meta_usable(64), 64u);
  EXPECT_EQ(hak_meta_usable(65), 128u);
  for (size_t size = 1; size < 100000; size += 37) {
    const size_t usable = hak_meta_usable(size);
    EXPECT_GE(usable, size);
    EXPECT_TRUE(hak_is_pow2(usable));
    EXPECT_TRUE(usable == 64 || usable / 2 < size) << size;
  }
}

// Live records keep what is written to them, new ones are zero also where they were used before.
TEST(Meta, RandomRecordsAreZeroAlignedAndApart) {
  Random random(3);
  struct Record {
    char *start;
    size_t size;
    unsigned char fill;
  };
  std::vector<Record> live;
  std::map<uintptr_t, uintptr_t> ranges;
  for (int op = 0; op < hak_unit::Operations(4000); op++) {
    if (live.size() < 60 && !random.OneIn(3)) {
      const size_t size = random.OneIn(40) ? random.Below(700000) : random.Below(3000);
      char *start = static_cast<char *>(hak_meta_alloc(size));
      ASSERT_NE(start, nullptr);
      const size_t usable = hak_meta_usable(size);
      const uintptr_t begin = reinterpret_cast<uintptr_t>(start);
      ASSERT_EQ(begin % 64, 0u);
      ASSERT_TRUE(IsZero(start, usable));
      const auto behind = ranges.lower_bound(begin);
      if (behind != ranges.end()) {
        ASSERT_LE(begin + usable, behind->first);
      }
      if (behind != ranges.begin()) {
        ASSERT_LE(std::prev(behind)->second, begin);
      }
      ranges[begin] = begin + usable;
      const unsigned char fill = static_cast<unsigned char>(1 + random.Below(255));
      memset(start, fill, usable);
      live.push_back({start, size, fill});
    } else if (!live.empty()) {
      const size_t at = random.Below(live.size());
      const Record record = live[at];
      live[at] = live.back();
      live.pop_back();
      for (size_t i = 0; i < hak_meta_usable(record.size); i++) {
        ASSERT_EQ(static_cast<unsigned char>(record.start[i]), record.fill);
      }
      ranges.erase(reinterpret_cast<uintptr_t>(record.start));
      hak_meta_free(record.start, record.size);
    }
  }
  for (const Record &record : live) hak_meta_free(record.start, record.size);
}

TEST(Meta, RecyclesBySizeAndDoesNotGrow) {
  const size_t sizes[] = {1, 64, 100, 1000, 5000, 100000, 300000};
  for (const size_t size : sizes) hak_meta_free(hak_meta_alloc(size), size);
  const uint64_t mapped = hak_meta_mapped();
  for (int i = 0; i < 1000; i++) {
    for (const size_t size : sizes) {
      void *record = hak_meta_alloc(size);
      ASSERT_NE(record, nullptr);
      hak_meta_free(record, size);
    }
  }
  EXPECT_EQ(hak_meta_mapped(), mapped);
}

TEST(Meta, CountsWhatIsMapped) {
  const uint64_t mapped = hak_meta_mapped();
  const uint64_t os_mapped = hak_os_totals().mapped;
  void *record = hak_meta_alloc(4 << 20);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(hak_meta_mapped(), mapped + (4 << 20));
  EXPECT_EQ(hak_os_totals().mapped, os_mapped + (4 << 20));
  hak_meta_free(record, 4 << 20);
  EXPECT_EQ(hak_meta_mapped(), mapped + (4 << 20));  // kept for the next of its size
}

TEST(Meta, RefusesHugeRecords) {
  const uint64_t mapped = hak_meta_mapped();
  EXPECT_EQ(hak_meta_alloc((size_t{1} << 39) + 1), nullptr);
  EXPECT_EQ(hak_meta_alloc(size_t{1} << 40), nullptr);
  EXPECT_EQ(hak_meta_alloc(SIZE_MAX), nullptr);
  EXPECT_EQ(hak_meta_mapped(), mapped);
}

TEST(Meta, RunsOutCleanlyAndRecovers) {
  const uint64_t mapped = hak_meta_mapped();
  void *last = hak_meta_alloc(2048);
  ASSERT_NE(last, nullptr);
  {
    const FaultPlan plan(HAK_FAULT_MAP);
    EXPECT_EQ(hak_meta_alloc(size_t{1} << 26), nullptr);
    // Small records come out of what is there until that ends.
    for (int i = 0; i < 1000 && hak_meta_alloc(2048) != nullptr; i++) {
    }
    EXPECT_EQ(hak_meta_alloc(2048), nullptr);
    // What is given back can be had again without the kernel.
    hak_meta_free(last, 2048);
    EXPECT_EQ(hak_meta_alloc(2048), last);
  }
  EXPECT_EQ(hak_meta_mapped(), mapped);
  EXPECT_NE(hak_meta_alloc(2048), nullptr);
  EXPECT_NE(hak_meta_alloc(size_t{1} << 26), nullptr);
}

TEST(Meta, ThreadsGetRecordsOfTheirOwn) {
  std::vector<std::thread> threads;
  std::atomic<int> faults{0};
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t, &faults] {
      for (int i = 0; i < 500; i++) {
        void *record = hak_meta_alloc(256);
        if (record == nullptr || !IsZero(record, 256)) {
          faults++;
          continue;
        }
        memset(record, t + 1, 256);
        std::this_thread::yield();
        for (int j = 0; j < 256; j++) faults += static_cast<char *>(record)[j] != t + 1 ? 1 : 0;
        hak_meta_free(record, 256);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(faults.load(), 0);
}

}  // namespace
