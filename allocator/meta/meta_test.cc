// SPDX-License-Identifier: Apache-2.0
#include "allocator/meta/meta.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "allocator/meta/meta_pages.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"

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

// A child that was created without fork handlers may inherit lists that a thread which does not exist there was
// changing: free records are lost, and those in use can be freed.
TEST(Meta, StartsAnewWhereTheLocksHolderDoesNotExist) {
  const int result = hak_unit::ResultInChild([] {
    constexpr size_t kSizes[] = {64, 200, 1000, 3000, 9000, 100000, 700000};
    std::vector<std::pair<char *, size_t>> live;
    for (int i = 0; i < 1400; i++) {
      live.emplace_back(static_cast<char *>(hak_meta_alloc(kSizes[i % 7])), kSizes[i % 7]);
      memset(live.back().first, i, live.back().second);
    }
    for (size_t i = 0; i < 700; i++) {
      hak_meta_free(live[i].first, live[i].second);
      // Where a free record has its links.
      memset(live[i].first, 0x55, 32);
    }
    hak_unit::LoseHolder(&hak_records_lock);
    for (size_t i = 700; i < live.size(); i++) {
      if (live[i].first[0] != static_cast<char>(i)) return 1;
      if (i % 2 == 0) hak_meta_free(live[i].first, live[i].second);
    }
    for (int i = 0; i < 1400; i++) {
      char *record = static_cast<char *>(hak_meta_alloc(kSizes[i % 7]));
      if (record == nullptr || !IsZero(record, kSizes[i % 7])) return 2;
      memset(record, 1, kSizes[i % 7]);
      if (i % 3 != 0) hak_meta_free(record, kSizes[i % 7]);
    }
    for (size_t i = 701; i < live.size(); i += 2) {
      if (live[i].first[live[i].second - 1] != static_cast<char>(i)) return 3;
      hak_meta_free(live[i].first, live[i].second);
    }
    hak_meta_trim();
    return hak_meta_alloc(64) != nullptr ? 0 : 4;
  });
  EXPECT_EQ(result, 0);
}

// Live records keep their contents. New records are zero, also in memory that was used before.
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
  // Of every kind at its bounds: parts of a page, one page, the longest run of pages, the shortest mapping of its own.
  const size_t sizes[] = {1, 64, 100, 1000, 2048, 4096, 5000, 131072, 131073, 262144, 300000};
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
  EXPECT_EQ(hak_meta_mapped(), mapped + (4 << 20));  // kept for the next record of this size
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
    // Takes small records until the existing chunks are used up.
    for (int i = 0; i < 1000 && hak_meta_alloc(2048) != nullptr; i++) {
    }
    EXPECT_EQ(hak_meta_alloc(2048), nullptr);
    // Freed records can be taken again without a system call.
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

// ---- Returning memory ---------------------------------------------------------------------------

class MetaRelease : public testing::Test {
 protected:
  MetaRelease() {
    hak_config.decommit_deadline_ms = kDeadline;
    hak_meta_trim();
    committed_ = hak_meta_committed();
  }
  // Records of all sizes below and above a page, about 4 MiB.
  void AllocMany() {
    for (int round = 0; round < 100; round++) {
      for (size_t size = 64; size <= 16384; size *= 2) {
        char *record = static_cast<char *>(hak_meta_alloc(size));
        memset(record, 1 + round, size);
        records_.push_back({record, size, 1 + round});
      }
    }
  }
  void FreeAllBut(size_t each) {
    std::vector<Record> kept;
    for (size_t i = 0; i < records_.size(); i++) {
      if (each != 0 && i % each == 0) {
        kept.push_back(records_[i]);
      } else {
        hak_meta_free(records_[i].start, records_[i].size);
      }
    }
    records_ = kept;
  }

  static constexpr uint64_t kDeadline = 1000000;
  struct Record {
    char *start;
    size_t size;
    int fill;
  };
  std::vector<Record> records_;
  uint64_t committed_;
};

TEST_F(MetaRelease, ATrimTakesAllFreePages) {
  AllocMany();
  const uint64_t mapped = hak_meta_mapped();
  EXPECT_GT(hak_meta_committed(), committed_ + 3000000);
  FreeAllBut(0);
  EXPECT_GE(hak_meta_trim(), hak_os_page_size() <= 16384 ? 3000000u : 2000000u);
  // What stays: the heads of chunks, records that share a large page of the system with them, and memory that was never
  // used.
  EXPECT_LE(hak_meta_committed(), committed_ + 16 * 2 * hak_os_page_size() + (256 << 10));
  EXPECT_EQ(hak_meta_trim(), 0u);
  EXPECT_EQ(hak_meta_mapped(), mapped);
  AllocMany();
  EXPECT_EQ(hak_meta_mapped(), mapped) << "they are used again";
  FreeAllBut(0);
}

TEST_F(MetaRelease, WhatIsInUseStays) {
  AllocMany();
  FreeAllBut(7);
  hak_meta_trim();
  for (const Record &record : records_) {
    for (size_t i = 0; i < record.size; i++) ASSERT_EQ(record.start[i], record.fill);
  }
  FreeAllBut(0);
}

// The contents of a record in use do not make it look free.
TEST_F(MetaRelease, ARecordThatLooksFreeIsNot) {
  struct Free {
    void *links[2];
    uint32_t shift;
  };
  constexpr size_t kSize = 128;
  std::vector<char *> all;
  for (int i = 0; i < 1000; i++) {
    char *record = static_cast<char *>(hak_meta_alloc(kSize));
    memset(record, 0, kSize);
    const Free looks = {{nullptr, nullptr}, 7};
    memcpy(record, &looks, sizeof looks);
    all.push_back(record);
  }
  // Frees every second record, so that of each pair of halves one is in use.
  std::vector<char *> used;
  for (char *record : all) {
    if ((reinterpret_cast<uintptr_t>(record) & kSize) == 0) {
      hak_meta_free(record, kSize);
    } else {
      used.push_back(record);
    }
  }
  ASSERT_GT(used.size(), 300u);
  hak_meta_trim();
  std::vector<char *> more;
  for (int i = 0; i < 1000; i++) {
    more.push_back(static_cast<char *>(hak_meta_alloc(2 * kSize)));
    memset(more.back(), 1, 2 * kSize);
  }
  for (const char *record : used) {
    Free entry;
    memcpy(&entry, record, sizeof entry);
    ASSERT_EQ(entry.shift, 7u);
    ASSERT_EQ(entry.links[0], nullptr);
  }
  for (char *record : used) hak_meta_free(record, kSize);
  for (char *record : more) hak_meta_free(record, 2 * kSize);
}

TEST_F(MetaRelease, FreePagesGoBackWhenTheyAreDue) {
  AllocMany();
  FreeAllBut(0);
  const uint64_t now = hak_os_now_ms();
  uint64_t idle = hak_meta_idle_bytes();
  EXPECT_GT(idle, hak_os_page_size() == 4096 ? 2500000u : 500000u);
  EXPECT_FALSE(hak_meta_tick(now + kDeadline / 2)) << "too early";
  EXPECT_TRUE(hak_meta_tick(now + 2 * kDeadline));
  idle = hak_meta_idle_bytes();
  EXPECT_TRUE(hak_meta_tick(now + 2 * kDeadline));
  EXPECT_LT(hak_meta_idle_bytes(), idle);
  EXPECT_GE(hak_meta_idle_bytes(), idle - (256 << 10)) << "a chunk's part a call";
  while (hak_meta_tick(now + 2 * kDeadline)) {
  }
  EXPECT_EQ(hak_meta_idle_bytes(), 0u);
  EXPECT_LE(hak_meta_committed(), committed_ + (1 << 20));
}

TEST_F(MetaRelease, ARefusalLosesNothing) {
  AllocMany();
  const uint64_t mapped = hak_meta_mapped();
  FreeAllBut(0);
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_EQ(hak_meta_trim(), 0u);
  }
  AllocMany();
  EXPECT_EQ(hak_meta_mapped(), mapped);
  FreeAllBut(0);
  EXPECT_NE(hak_meta_trim(), 0u);
}

TEST_F(MetaRelease, ARecordThatRestsReadsAsZero) {
  const size_t size = 12000;
  char *record = static_cast<char *>(hak_meta_alloc(size));
  memset(record, 5, size);
  const uint64_t committed = hak_meta_committed();
  if (!hak_meta_can_rest(size)) GTEST_SKIP() << "pages are larger than that";
  {
    const FaultPlan plan(HAK_FAULT_DECOMMIT);
    EXPECT_FALSE(hak_meta_rest(record, size));
  }
  EXPECT_EQ(record[0], 5);
  ASSERT_TRUE(hak_meta_rest(record, size));
  EXPECT_LE(hak_meta_committed() + size, committed);
  EXPECT_TRUE(IsZero(record, size));
  hak_meta_wake(size);
  EXPECT_EQ(hak_meta_committed(), committed);
  hak_meta_free(record, size);
}

// The process forks while another thread returns pages: the child can use these pages.
TEST_F(MetaRelease, AChildLosesNoPagesThatWereInHand) {
  AllocMany();
  FreeAllBut(0);
  const uint64_t idle = hak_meta_pages_idle_bytes();
  const uint64_t now = hak_os_now_ms();
  hak_meta_loan *loan = nullptr;
  std::thread([&] { loan = hak_meta_pages_lend(now, now); }).join();
  ASSERT_NE(loan, nullptr);
  ASSERT_LT(hak_meta_pages_idle_bytes(), idle);
  EXPECT_EQ(hak_meta_pages_lend(now, now), nullptr) << "one at a time";
  const pid_t child = fork();
  if (child == 0) {
    hak_meta_forked();
    const bool good = hak_meta_pages_idle_bytes() == idle && hak_meta_trim() != 0;
    AllocMany();
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(hak_meta_pages_return(loan, now), 0u);
  EXPECT_EQ(hak_meta_pages_idle_bytes(), idle);
}

}  // namespace
