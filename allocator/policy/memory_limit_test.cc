// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/memory_limit.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdint.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/os/cgroup.h"
#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kNone = UINT64_MAX;

hak_limit_verdict Judge(uint64_t committed, uint64_t more, uint64_t purge_at, uint64_t hard) {
  hak_limit_facts facts = {};
  facts.committed = committed;
  facts.more = more;
  facts.purge_at = purge_at;
  facts.hard = hard;
  return hak_limit_judge(&facts);
}

// The rule in words: a request beyond the address space is refused. A request that passes the point to purge at purges
// first. Of the others, a request that passes the hard limit is refused; one that reaches it or stays below is
// admitted.
TEST(LimitJudge, EveryCombinationOfFewValues) {
  const uint64_t values[] = {0, 1, 2, 3, 4, 5, 6, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
  int seen[3] = {};
  for (const uint64_t committed : values) {
    for (const uint64_t more : values) {
      for (const uint64_t purge_at : values) {
        for (const uint64_t hard : values) {
          // Differences instead of the sum: they cannot overflow.
          const bool impossible = more > UINT64_MAX - committed;
          const bool passes_purge = committed > purge_at || more > purge_at - committed;
          const bool passes_hard = hard != 0 && (committed > hard || more > hard - committed);
          hak_limit_verdict want = HAK_LIMIT_GROW;
          if (passes_hard) want = HAK_LIMIT_REFUSE;
          if (passes_purge) want = HAK_LIMIT_PURGE;
          if (impossible) want = HAK_LIMIT_REFUSE;
          EXPECT_EQ(Judge(committed, more, purge_at, hard), want)
              << committed << ' ' << more << ' ' << purge_at << ' ' << hard;
          seen[want]++;
        }
      }
    }
  }
  for (const int times : seen) EXPECT_GT(times, 0);
}

// The rule in words: beyond the soft limit, and not beyond the hard one, which would refuse it.
TEST(LimitIsNear, EveryCombinationOfFewValues) {
  const uint64_t values[] = {0, 1, 2, 3, 4, 5, 6, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
  int seen[2] = {};
  for (const uint64_t committed : values) {
    for (const uint64_t more : values) {
      for (const uint64_t soft : values) {
        for (const uint64_t hard : values) {
          const bool impossible = more > UINT64_MAX - committed;
          const bool passes_soft = committed > soft || more > soft - committed;
          const bool passes_hard = hard != 0 && (committed > hard || more > hard - committed);
          hak_limit_facts facts = {};
          facts.committed = committed;
          facts.more = more;
          facts.purge_at = soft;
          facts.hard = hard;
          const bool is_near = hak_limit_is_near(&facts);
          EXPECT_EQ(is_near, !impossible && passes_soft && !passes_hard)
              << committed << ' ' << more << ' ' << soft << ' ' << hard;
          seen[is_near]++;
        }
      }
    }
  }
  for (const int times : seen) EXPECT_GT(times, 0);
}

TEST(LimitJudge, SomeCases) {
  EXPECT_EQ(Judge(0, 0, kNone, 0), HAK_LIMIT_GROW);
  EXPECT_EQ(Judge(90, 10, kNone, 100), HAK_LIMIT_GROW);
  EXPECT_EQ(Judge(90, 11, kNone, 100), HAK_LIMIT_REFUSE);
  EXPECT_EQ(Judge(80, 8, 88, 100), HAK_LIMIT_GROW);
  EXPECT_EQ(Judge(80, 9, 88, 100), HAK_LIMIT_PURGE);
  EXPECT_EQ(Judge(80, 21, 88, 100), HAK_LIMIT_PURGE);  // a purge may make room
  EXPECT_EQ(Judge(UINT64_MAX - 5, 5, kNone, 0), HAK_LIMIT_GROW);
  EXPECT_EQ(Judge(UINT64_MAX - 5, 6, kNone, 0), HAK_LIMIT_REFUSE);
  EXPECT_EQ(Judge(UINT64_MAX - 5, 6, 0, 0), HAK_LIMIT_REFUSE);
}

TEST(LimitSoft, IsSevenEighthsOfTheLowerLimit) {
  EXPECT_EQ(hak_limit_soft(0, 0, 0), kNone);
  for (const uint64_t limit : {uint64_t{8}, 64 * kMiB, uint64_t{1} << 40, uint64_t{1} << 63}) {
    EXPECT_EQ(hak_limit_soft(limit, 0, 0), limit / 8 * 7);
    EXPECT_EQ(hak_limit_soft(0, limit, 0), limit / 8 * 7);
    EXPECT_EQ(hak_limit_soft(limit, limit + 8, 0), limit / 8 * 7);
    EXPECT_EQ(hak_limit_soft(limit + 8, limit, 0), limit / 8 * 7);
  }
  // The soft limit is never 0, which would mean "not known", and never above the hard limit.
  for (uint64_t limit = 1; limit < 100; limit++) {
    EXPECT_GE(hak_limit_soft(limit, 0, 0), 1u) << limit;
    EXPECT_LE(hak_limit_soft(limit, 0, 0), limit);
    EXPECT_EQ(hak_limit_soft(limit, 0, 0), limit - limit / 8);
  }
  EXPECT_EQ(hak_limit_soft(UINT64_MAX, 0, 0), kNone);
  EXPECT_LT(hak_limit_soft(UINT64_MAX - 1, 0, 0), UINT64_MAX - 1);
}

// The setting is taken as it is, because no request fails beyond it.
TEST(LimitSoft, IsTheSettingIfThatIsLower) {
  EXPECT_EQ(hak_limit_soft(0, 0, 1), 1u);
  EXPECT_EQ(hak_limit_soft(0, 0, 64 * kMiB), 64 * kMiB);
  for (const auto &[hard, group] : {std::pair{64 * kMiB, uint64_t{0}}, std::pair{uint64_t{0}, 64 * kMiB}}) {
    EXPECT_EQ(hak_limit_soft(hard, group, 56 * kMiB - 1), 56 * kMiB - 1);
    EXPECT_EQ(hak_limit_soft(hard, group, 56 * kMiB), 56 * kMiB);
    EXPECT_EQ(hak_limit_soft(hard, group, 56 * kMiB + 1), 56 * kMiB);
    EXPECT_EQ(hak_limit_soft(hard, group, 64 * kMiB), 56 * kMiB);
    EXPECT_EQ(hak_limit_soft(hard, group, UINT64_MAX), 56 * kMiB);
  }
}

TEST(LimitNextPurge, IsTheSoftLimitOrALittleAboveWhatIsWanted) {
  EXPECT_EQ(hak_limit_next_purge(kNone, 0, 0), kNone);
  EXPECT_EQ(hak_limit_next_purge(kNone, 100, 100), kNone);
  EXPECT_EQ(hak_limit_next_purge(3200, 0, 0), 3200u);
  EXPECT_EQ(hak_limit_next_purge(3200, 1000, 500), 3200u);
  EXPECT_EQ(hak_limit_next_purge(3200, 3100, 0), 3200u);
  EXPECT_EQ(hak_limit_next_purge(3200, 3200, 0), 3300u);
  EXPECT_EQ(hak_limit_next_purge(3200, 3199, 0), 3299u);
  EXPECT_EQ(hak_limit_next_purge(3200, 4000, 50), 4050u + 126u);
  EXPECT_EQ(hak_limit_next_purge(3200, 0, 4000), 4125u);
  EXPECT_EQ(hak_limit_next_purge(3200, 32000, 32000), 66000u);
  // The point cannot be above the largest number.
  EXPECT_EQ(hak_limit_next_purge(3200, UINT64_MAX, 0), kNone);
  EXPECT_EQ(hak_limit_next_purge(3200, UINT64_MAX / 33 * 32 + 64, 0), kNone);
  EXPECT_EQ(hak_limit_next_purge(3200, UINT64_MAX / 33 * 32, 0), UINT64_MAX / 33 * 33);
  EXPECT_EQ(hak_limit_next_purge(3200, UINT64_MAX - 5, 6), kNone);
  EXPECT_EQ(hak_limit_next_purge(UINT64_MAX - 1, 0, 0), UINT64_MAX - 1);
}

// Whatever a purge left, the growth that caused it does not cause another one. The next purge comes after a 32nd more
// of the soft limit or of what was wanted, and never below the soft limit.
TEST(LimitNextPurge, LetsTheGrowthThroughThatAskedForIt) {
  hak_unit::Random random(1);
  const auto number = [&random] { return random.Next() >> random.Below(64); };
  for (int i = 0; i < 100000; i++) {
    const uint64_t soft = number() | 1, committed = number(), more = number();
    const uint64_t next = hak_limit_next_purge(soft, committed, more);
    EXPECT_GE(next, soft) << soft << ' ' << committed << ' ' << more;
    EXPECT_NE(Judge(committed, more, next, 0), HAK_LIMIT_PURGE) << soft << ' ' << committed << ' ' << more;
    if (next != soft && next != kNone) {
      const uint64_t wanted = committed + more;
      EXPECT_EQ(next - wanted, (wanted > soft ? wanted : soft) / 32) << soft << ' ' << committed;
    }
    EXPECT_GE(hak_limit_next_purge(soft, committed | 1, more), next);  // the more is committed, the later the purge
  }
}

TEST(Account, IsTheSumOfWhatWasAddedAndTakenAway) {
  const uint64_t before = hak_commit_now();
  hak_commit_add(1000);
  hak_commit_add(0);
  hak_commit_add(24);
  EXPECT_EQ(hak_commit_now() - before, 1024u);
  hak_commit_sub(1000);
  EXPECT_EQ(hak_commit_now() - before, 24u);
  hak_commit_sub(24);
  EXPECT_EQ(hak_commit_now(), before);
}

TEST(Account, IsExactAcrossThreads) {
  const uint64_t before = hak_commit_now();
  const int rounds = hak_unit::Operations(100000);
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 4; t++) {
    threads.emplace_back([&, t] {
      ready++;
      while (ready.load() != 4) std::this_thread::yield();
      for (int i = 0; i < rounds; i++) {
        hak_commit_add(3 * t);
        hak_commit_sub(t);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(hak_commit_now() - before, 2 * (1 + 2 + 3 + 4) * static_cast<uint64_t>(rounds));
  hak_commit_sub(hak_commit_now() - before);
}

// ---- Admission: each case in a process of its own, because the limits are determined once --------------------------

void Configure(uint64_t limit_bytes, bool cgroup_limit) {
  hak_config.memory_limit_bytes = limit_bytes;
  hak_config.cgroup_limit = cgroup_limit;
  ASSERT_EQ(hak_commit_now(), 0u);
  // Nothing is known before the first call.
  ASSERT_EQ(hak_limit_totals().soft, kNone);
  ASSERT_EQ(hak_limit_totals().purges, 0u);
  ASSERT_EQ(hak_limit_totals().refusals, 0u);
}

void ExpectTotals(uint64_t soft, uint64_t purges, uint64_t refusals) {
  const struct hak_limit_totals totals = hak_limit_totals();
  EXPECT_EQ(totals.soft, soft);
  EXPECT_EQ(totals.purges, purges);
  EXPECT_EQ(totals.refusals, refusals);
}

void WithoutALimit() {
  Configure(0, false);
  errno = E2BIG;
  EXPECT_TRUE(hak_limit_admit(0));
  EXPECT_TRUE(hak_limit_admit(UINT64_MAX));
  hak_commit_add(uint64_t{1} << 50);
  EXPECT_TRUE(hak_limit_admit(uint64_t{1} << 50));
  ExpectTotals(kNone, 0, 0);
  hak_limit_purged(1);  // has no effect without a limit
  EXPECT_TRUE(hak_limit_admit(uint64_t{1} << 50));
  EXPECT_FALSE(hak_limit_admit(UINT64_MAX));  // more than any address space
  ExpectTotals(kNone, 0, 1);
  EXPECT_EQ(errno, E2BIG);
}

TEST(Admission, WithoutALimitEverythingThatCanBe) { HAK_EXPECT_PASSES_IN_CHILD(WithoutALimit()); }

void WithALimit() {
  Configure(64 * kMiB, false);
  hak_limit_purged(1);  // before anything is known
  ASSERT_EQ(hak_limit_totals().soft, kNone);
  errno = E2BIG;
  EXPECT_TRUE(hak_limit_admit(56 * kMiB));
  ExpectTotals(56 * kMiB, 0, 0);
  EXPECT_EQ(hak_commit_now(), 0u);  // admission does not count the bytes
  hak_commit_add(50 * kMiB);
  EXPECT_TRUE(hak_limit_admit(6 * kMiB));
  ExpectTotals(56 * kMiB, 0, 0);
  // Past the soft limit: a purge comes first, then growth is admitted, for a 32nd of the soft limit more without
  // another purge.
  EXPECT_FALSE(hak_limit_admit(6 * kMiB + 1));
  ExpectTotals(56 * kMiB, 1, 0);
  hak_limit_purged(6 * kMiB + 1);
  EXPECT_TRUE(hak_limit_admit(6 * kMiB + 1));
  EXPECT_TRUE(hak_limit_admit(6 * kMiB + 1 + 56 * kMiB / 32));
  ExpectTotals(56 * kMiB, 1, 0);
  EXPECT_FALSE(hak_limit_admit(6 * kMiB + 2 + (56 * kMiB + 1) / 32));
  ExpectTotals(56 * kMiB, 2, 0);
  // Growth is admitted up to the hard limit and not a byte further, purged or not.
  hak_limit_purged(14 * kMiB);
  EXPECT_TRUE(hak_limit_admit(14 * kMiB));
  EXPECT_FALSE(hak_limit_admit(14 * kMiB + 1));
  ExpectTotals(56 * kMiB, 2, 1);
  EXPECT_FALSE(hak_limit_admit(100 * kMiB));
  ExpectTotals(56 * kMiB, 3, 1);
  hak_limit_purged(100 * kMiB);
  EXPECT_FALSE(hak_limit_admit(100 * kMiB));
  ExpectTotals(56 * kMiB, 3, 2);
  // After a purge that freed much, the soft limit counts again.
  hak_commit_sub(40 * kMiB);
  hak_limit_purged(1);
  EXPECT_TRUE(hak_limit_admit(46 * kMiB));
  EXPECT_FALSE(hak_limit_admit(46 * kMiB + 1));
  ExpectTotals(56 * kMiB, 4, 2);
  EXPECT_EQ(errno, E2BIG);
}

TEST(Admission, TheLimitIsKeptToTheByte) { HAK_EXPECT_PASSES_IN_CHILD(WithALimit()); }

// A large request moves the next purge far up. Neither its failure nor its end may leave it there.
void AfterALargeRequest() {
  Configure(0, false);
  hak_config.soft_limit_bytes = 64 * kMiB;
  hak_commit_add(40 * kMiB);
  EXPECT_FALSE(hak_limit_admit(uint64_t{1} << 40));
  hak_limit_purged(uint64_t{1} << 40);
  EXPECT_TRUE(hak_limit_admit(25 * kMiB));
  hak_limit_purged(0);
  EXPECT_FALSE(hak_limit_admit(25 * kMiB));
  // It succeeds, and is freed.
  hak_limit_purged(uint64_t{1} << 30);
  hak_commit_add(uint64_t{1} << 30);
  EXPECT_TRUE(hak_limit_admit(kMiB));
  hak_commit_sub(uint64_t{1} << 30);
  EXPECT_TRUE(hak_limit_admit(23 * kMiB));  // a 32nd below the limit or less: it stays
  EXPECT_TRUE(hak_limit_admit(25 * kMiB));
  EXPECT_TRUE(hak_limit_admit(kMiB));
  EXPECT_FALSE(hak_limit_admit(25 * kMiB));
}

TEST(Admission, ALargeRequestDoesNotEndPurges) { HAK_EXPECT_PASSES_IN_CHILD(AfterALargeRequest()); }

void TellsWhoHasRefused() {
  Configure(64 * kMiB, false);
  EXPECT_FALSE(hak_limit_refused());
  EXPECT_TRUE(hak_limit_admit(kMiB));
  EXPECT_FALSE(hak_limit_refused());
  EXPECT_FALSE(hak_limit_admit(60 * kMiB));
  bool other = true;
  std::thread([&other] { other = hak_limit_refused(); }).join();
  EXPECT_FALSE(other);
  EXPECT_TRUE(hak_limit_refused());
  EXPECT_FALSE(hak_limit_refused());
  hak_limit_purged(100 * kMiB);
  EXPECT_FALSE(hak_limit_admit(100 * kMiB));
  EXPECT_TRUE(hak_limit_refused());
}

TEST(Admission, TellsWhoHasRefused) { HAK_EXPECT_PASSES_IN_CHILD(TellsWhoHasRefused()); }

void WithASoftLimit() {
  Configure(0, false);
  hak_config.soft_limit_bytes = 64 * kMiB;
  EXPECT_TRUE(hak_limit_admit(64 * kMiB));
  EXPECT_FALSE(hak_limit_is_beyond_setting());
  hak_commit_add(64 * kMiB);
  EXPECT_FALSE(hak_limit_is_beyond_setting());
  EXPECT_FALSE(hak_limit_admit(1));
  ExpectTotals(64 * kMiB, 1, 0);
  hak_limit_purged(kMiB);
  EXPECT_TRUE(hak_limit_admit(kMiB));
  hak_commit_add(100 * kMiB);
  EXPECT_TRUE(hak_limit_is_beyond_setting());
  // Another thread has taken the room since the purge. Whoever purged is let through all the same, others are not.
  EXPECT_FALSE(hak_limit_admit(kMiB));
  hak_limit_exempt(true);
  EXPECT_TRUE(hak_limit_admit(1024 * kMiB));
  EXPECT_FALSE(hak_limit_has_room(kMiB));
  bool other = true;
  std::thread([&other] { other = hak_limit_admit(kMiB); }).join();
  EXPECT_FALSE(other);
  // The hard limit holds for it too.
  hak_config.memory_limit_bytes = 512 * kMiB;
  EXPECT_TRUE(hak_limit_admit(348 * kMiB));
  EXPECT_FALSE(hak_limit_admit(348 * kMiB + 1));
  hak_limit_exempt(false);
  ExpectTotals(64 * kMiB, 3, 1);
  EXPECT_FALSE(hak_limit_admit(kMiB));
  hak_config.soft_limit_bytes = 0;
  hak_config.memory_limit_bytes = 0;
  hak_limit_changed();
  EXPECT_TRUE(hak_limit_admit(1024 * kMiB));
  EXPECT_FALSE(hak_limit_is_beyond_setting());
  EXPECT_EQ(hak_limit_totals().soft, kNone);
}

TEST(Admission, TheSoftLimitHoldsOnlyUntilMemoryWasReturned) { HAK_EXPECT_PASSES_IN_CHILD(WithASoftLimit()); }

// Growth alone never makes it read the control group or the configuration again.
void ReadWhenAsked() {
  const auto soft = [](uint64_t limit) { return hak_limit_soft(limit, hak_os_cgroup_limit(), 0); };
  const auto admit_at = [](uint64_t committed) {
    hak_commit_add(committed - hak_commit_now());
    hak_limit_admit(0);
    return hak_limit_totals().soft;
  };
  Configure(1024 * kMiB, true);
  errno = E2BIG;
  EXPECT_EQ(admit_at(kMiB), 896 * kMiB);  // the group was not read yet
  hak_limit_read_group();
  EXPECT_EQ(admit_at(kMiB), soft(1024 * kMiB));
  hak_config.memory_limit_bytes = 512 * kMiB;
  EXPECT_EQ(admit_at(8 * kMiB), soft(1024 * kMiB));
  EXPECT_EQ(admit_at(500 * kMiB), soft(1024 * kMiB));
  hak_limit_changed();
  EXPECT_EQ(admit_at(500 * kMiB), soft(512 * kMiB));
  hak_config.cgroup_limit = false;
  hak_limit_read_group();
  EXPECT_EQ(admit_at(1 * kMiB), 448 * kMiB);
  EXPECT_EQ(errno, E2BIG);
}

TEST(Admission, TheControlGroupIsReadWhenAsked) { HAK_EXPECT_PASSES_IN_CHILD(ReadWhenAsked()); }

// A new soft limit replaces the point that the last purge had set.
void NewLimitNewPoint() {
  Configure(64 * kMiB, true);
  hak_commit_add(7 * kMiB);
  ASSERT_TRUE(hak_limit_admit(0));
  hak_limit_purged(200 * kMiB);
  hak_commit_add(1 * kMiB);
  hak_config.memory_limit_bytes = 32 * kMiB;
  hak_limit_changed();
  ASSERT_TRUE(hak_limit_admit(0));
  const uint64_t soft = hak_limit_totals().soft;
  EXPECT_LE(soft, 28 * kMiB);
  EXPECT_FALSE(hak_limit_admit(soft));
  EXPECT_EQ(hak_limit_totals().purges, 1u);
}

TEST(Admission, ANewSoftLimitIsANewPointToPurgeAt) { HAK_EXPECT_PASSES_IN_CHILD(NewLimitNewPoint()); }

// The same soft limit, read again, does not: otherwise a purge would be made once more for nothing.
void SameLimitSamePoint() {
  Configure(64 * kMiB, true);
  hak_limit_read_group();
  hak_commit_add(7 * kMiB);
  ASSERT_TRUE(hak_limit_admit(0));
  const uint64_t soft = hak_limit_totals().soft;
  hak_limit_purged(soft);
  ASSERT_TRUE(hak_limit_admit(soft));
  hak_commit_add(1 * kMiB);
  hak_limit_read_group();
  ASSERT_EQ(hak_limit_soft(64 * kMiB, hak_os_cgroup_limit(), 0), soft) << "the system's own limit is lower";
  EXPECT_TRUE(hak_limit_admit(soft - 1 * kMiB));
  EXPECT_EQ(hak_limit_totals().soft, soft);
  EXPECT_EQ(hak_limit_totals().purges, 0u);
}

TEST(Admission, TheSameSoftLimitIsNoNewPoint) {
  const uint64_t group = hak_os_cgroup_limit();
  if (group != 0 && group <= 64 * kMiB) GTEST_SKIP() << "this process is in a group with little memory";
  HAK_EXPECT_PASSES_IN_CHILD(SameLimitSamePoint());
}

void WithoutTheGroup() {
  Configure(1024 * kMiB, false);
  hak_commit_add(100 * kMiB);
  EXPECT_TRUE(hak_limit_admit(0));
  EXPECT_EQ(hak_limit_totals().soft, 896 * kMiB);
  hak_config.memory_limit_bytes = 512 * kMiB;
  hak_commit_add(200 * kMiB);
  EXPECT_TRUE(hak_limit_admit(0));
  EXPECT_EQ(hak_limit_totals().soft, 896 * kMiB);
}

TEST(Admission, WithoutTheGroupTheLimitIsFoundOutOnce) { HAK_EXPECT_PASSES_IN_CHILD(WithoutTheGroup()); }

void ManyThreads() {
  Configure(64 * kMiB, true);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([] {
      for (int i = 0; i < 2000; i++) {
        if (hak_limit_admit(kMiB)) hak_commit_add(kMiB);
        if (hak_commit_now() > 40 * kMiB) hak_limit_purged(kMiB);
        if (i % 3 != 0 && hak_commit_now() > 16 * kMiB) hak_commit_sub(kMiB);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  // Exceeded at most by what the threads request at one moment.
  EXPECT_LE(hak_commit_now(), 64 * kMiB + 4 * kMiB);
  EXPECT_LE(hak_limit_totals().soft, 56 * kMiB);
}

TEST(Admission, FromManyThreads) { HAK_EXPECT_PASSES_IN_CHILD(ManyThreads()); }

}  // namespace
