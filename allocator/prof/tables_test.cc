// SPDX-License-Identifier: Apache-2.0
//
// The tables of the sampler against the standard library's.
#include <map>
#include <set>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/prof/live_samples.h"
#include "allocator/prof/prof_lock.h"
#include "allocator/prof/sampler.h"
#include "allocator/prof/stack_table.h"

namespace {

// Each test has the tables to itself.
class Tables : public testing::Test {
 protected:
  Tables() {
    hak_lock_acquire(&hak_prof_mutex);
    hak_live_samples_start_anew();
    hak_stack_table_start_anew();
  }
  ~Tables() override { hak_lock_release(&hak_prof_mutex); }
};

void *Address(uint64_t n) { return reinterpret_cast<void *>(uintptr_t{0x10000000} + n * 16); }

hak_live_sample SampleOf(uint64_t n) {
  hak_live_sample sample = {};
  sample.address = Address(n);
  sample.size = n * 3;
  sample.weight = static_cast<double>(n) / 2;
  sample.when_ns = n * 5;
  sample.stack = static_cast<uint32_t>(n * 7);
  sample.thread = static_cast<uint32_t>(n);
  return sample;
}

bool IsThat(const hak_live_sample &sample, uint64_t n) {
  const hak_live_sample expected = SampleOf(n);
  return sample.address == expected.address && sample.size == expected.size && sample.weight == expected.weight &&
         sample.when_ns == expected.when_ns && sample.stack == expected.stack && sample.thread == expected.thread;
}

// What a visit shows.
std::multiset<void *> Visited(uint32_t room) {
  std::multiset<void *> all;
  std::vector<hak_live_sample> copies(room);
  uint32_t slot = 0;
  while (const uint32_t count = hak_live_sample_read(&slot, copies.data(), room)) {
    for (uint32_t i = 0; i < count; i++) all.insert(copies[i].address);
  }
  return all;
}

TEST_F(Tables, LiveSamplesAreThoseOfASet) {
  hak_unit::Random random(1);
  std::set<uint64_t> model;
  for (int i = 0; i < hak_unit::Operations(60000); i++) {
    // The table grows over three doublings, and shrinks.
    const uint64_t n = 1 + random.Below(i % 20000 < 14000 ? 9000 : 300);
    if (model.count(n) == 0) {
      const hak_live_sample sample = SampleOf(n);
      ASSERT_TRUE(hak_live_sample_put(&sample));
      model.insert(n);
    } else {
      hak_live_sample out = {};
      ASSERT_TRUE(hak_live_sample_take(Address(n), &out));
      ASSERT_TRUE(IsThat(out, n));
      model.erase(n);
    }
    ASSERT_EQ(atomic_load_explicit(&hak_live_samples, memory_order_relaxed), model.size());
    hak_live_sample out;
    ASSERT_FALSE(hak_live_sample_take(Address(20000 + n), &out));
  }
  std::multiset<void *> expected;
  for (const uint64_t n : model) expected.insert(Address(n));
  EXPECT_EQ(Visited(32), expected);
  EXPECT_EQ(Visited(1), expected);
  for (const uint64_t n : model) {
    hak_live_sample out = {};
    ASSERT_TRUE(hak_live_sample_take(Address(n), &out));
    ASSERT_TRUE(IsThat(out, n));
  }
  EXPECT_TRUE(Visited(32).empty());
}

TEST_F(Tables, FreedSlotsAreUsedAgain) {
  for (uint64_t round = 0; round < 5000; round++) {
    const hak_live_sample sample = SampleOf(round + 1);
    ASSERT_TRUE(hak_live_sample_put(&sample));
    hak_live_sample out;
    ASSERT_TRUE(hak_live_sample_take(sample.address, &out));
  }
  const hak_live_sample sample = SampleOf(1);
  ASSERT_TRUE(hak_live_sample_put(&sample));
  uint32_t slot = 0;
  hak_live_sample out;
  EXPECT_EQ(hak_live_sample_read(&slot, &out, 1), 1u);
  EXPECT_EQ(slot, 1u);
}

TEST_F(Tables, AFoundSampleStays) {
  for (uint64_t n = 1; n <= 1000; n++) {
    const hak_live_sample sample = SampleOf(n);
    ASSERT_TRUE(hak_live_sample_put(&sample));
  }
  hak_live_sample out = {};
  for (uint64_t n = 1; n <= 1000; n++) {
    ASSERT_TRUE(hak_live_sample_find(Address(n), &out));
    ASSERT_TRUE(IsThat(out, n));
  }
  EXPECT_FALSE(hak_live_sample_find(Address(1001), &out));
  EXPECT_TRUE(hak_live_sample_take(Address(7), &out));
  EXPECT_FALSE(hak_live_sample_find(Address(7), &out));
}

TEST_F(Tables, EachStackHasOneNumber) {
  hak_unit::Random random(2);
  std::map<std::vector<void *>, uint32_t> model;
  std::set<uint32_t> numbers = {0};
  for (int i = 0; i < 20000; i++) {
    std::vector<void *> stack(1 + random.Below(random.OneIn(20) ? HAK_STACK_FRAMES_MAX : 4));
    for (void *&frame : stack) frame = Address(random.Below(6));
    const uint32_t number = hak_stack_number(stack.data(), static_cast<uint32_t>(stack.size()));
    const auto known = model.find(stack);
    if (known != model.end()) {
      ASSERT_EQ(number, known->second);
    } else {
      ASSERT_TRUE(numbers.insert(number).second);
      model[stack] = number;
    }
  }
  for (const auto &[stack, number] : model) {
    const struct hak_stack_record *record = hak_stack_record(number);
    ASSERT_NE(record, nullptr);
    ASSERT_EQ(std::vector<void *>(record->frame, record->frame + record->frames), stack);
  }
  EXPECT_EQ(hak_stack_record(static_cast<uint32_t>(numbers.size())), nullptr);
}

TEST_F(Tables, StacksBeyondTheBoundHaveNumber0) {
  void *frame[2] = {};
  uint32_t full = 0;
  for (uint32_t i = 0; i < HAK_STACKS_MAX + 10; i++) {
    frame[0] = Address(i);
    full += hak_stack_number(frame, 2) == 0;
  }
  EXPECT_EQ(full, 11u);
  frame[0] = Address(5);
  EXPECT_NE(hak_stack_number(frame, 2), 0u) << "a known one is still found";
  EXPECT_EQ(hak_stack_number(frame, 0), 0u);
  EXPECT_EQ(hak_stack_number(frame, HAK_STACK_FRAMES_MAX + 1), 0u);
  EXPECT_EQ(hak_stack_record(0)->frames, 0u);
}

TEST_F(Tables, TotalsOfAStack) {
  void *frame = Address(1);
  const uint32_t number = hak_stack_number(&frame, 1);
  hak_stack_count_in(number, 0.1, 10);
  hak_stack_count_in(number, 0.2, 10);
  hak_stack_count_in(number, 3, 100);
  hak_stack_count_out(number, 3, 100);
  const struct hak_stack_totals totals = hak_stack_record(number)->totals;
  EXPECT_NEAR(totals.alloc_objects, 3.3, 1e-12);
  EXPECT_NEAR(totals.alloc_bytes, 303, 1e-12);
  EXPECT_NEAR(totals.inuse_objects, 0.3, 1e-12);
  EXPECT_NEAR(totals.inuse_bytes, 3, 1e-12);
  hak_stack_count_out(number, 0.1, 10);
  hak_stack_count_out(number, 0.2, 10);
  EXPECT_EQ(hak_stack_record(number)->totals.inuse_objects, 0) << "rounding leaves nothing over";
  EXPECT_EQ(hak_stack_record(number)->totals.inuse_bytes, 0);
}

TEST_F(Tables, LifetimesAreThoseOfFreedBlocks) {
  void *frame = Address(1);
  const uint32_t number = hak_stack_number(&frame, 1);
  for (const double weight : {2.0, 3.0, 5.0}) hak_stack_count_in(number, weight, 10);
  hak_stack_count_freed(number, 2, 10, 100);
  hak_stack_count_freed(number, 3, 10, 7);
  struct hak_stack_totals totals = hak_stack_record(number)->totals;
  EXPECT_EQ(totals.lived_objects, 5);
  EXPECT_EQ(totals.lived_bytes, 50);
  EXPECT_EQ(totals.lived_us, 2 * 100 + 3 * 7);
  EXPECT_EQ(totals.inuse_objects, 5);
  hak_stack_count_out(number, 5, 10);
  totals = hak_stack_record(number)->totals;
  EXPECT_EQ(totals.inuse_objects, 0);
  EXPECT_EQ(totals.lived_objects, 5) << "it is not known how long the last one lived";
  hak_stack_count_freed(number, 5, 10, 1);
  EXPECT_EQ(hak_stack_record(number)->totals.lived_objects, 5) << "there is none left: the table was forgotten";
}

// Against a copy of all stacks at each mark. Whole numbers, so that sums are exact.
TEST_F(Tables, MarksKeepWhatWasLive) {
  hak_unit::Random random(4);
  struct Stack {
    uint32_t number;
    std::vector<uint64_t> live;
    double objects, bytes, marked_objects, marked_bytes;
  };
  std::vector<Stack> stacks;
  for (int i = 0; i < hak_unit::Operations(20000); i++) {
    if (stacks.size() < 30 && (stacks.empty() || random.OneIn(100))) {
      void *frame = Address(stacks.size());
      stacks.push_back({hak_stack_number(&frame, 1), {}, 0, 0, 0, 0});
    }
    Stack &stack = stacks[random.Below(stacks.size())];
    if (random.OneIn(2) || stack.live.empty()) {
      stack.live.push_back(1 + random.Below(1000));
      hak_stack_count_in(stack.number, 2, stack.live.back());
      stack.objects += 2;
      stack.bytes += 2.0 * static_cast<double>(stack.live.back());
    } else {
      hak_stack_count_freed(stack.number, 2, stack.live.back(), 1);
      stack.objects -= 2;
      stack.bytes -= 2.0 * static_cast<double>(stack.live.back());
      stack.live.pop_back();
    }
    if (random.OneIn(100)) {
      hak_stack_mark();
      for (Stack &each : stacks) {
        each.marked_objects = each.objects;
        each.marked_bytes = each.bytes;
      }
    }
    if (!random.OneIn(10)) continue;
    for (const Stack &each : stacks) {
      const struct hak_stack_totals totals = hak_stack_totals_of(hak_stack_record(each.number));
      ASSERT_EQ(totals.marked_objects, each.marked_objects);
      ASSERT_EQ(totals.marked_bytes, each.marked_bytes);
    }
  }
}

// Against copies of all stacks at each peak. Whole numbers, so that sums are exact.
TEST_F(Tables, ThePeakIsThatOfAllStacksTogether) {
  hak_unit::Random random(3);
  struct Stack {
    uint32_t number;
    std::vector<uint64_t> live;
    double objects, bytes, peak_objects, peak_bytes;
  };
  std::vector<Stack> stacks;
  double bytes = 0;
  double most = 0;
  const auto compare = [&stacks] {
    for (const Stack &stack : stacks) {
      const struct hak_stack_totals totals = hak_stack_totals_of(hak_stack_record(stack.number));
      ASSERT_EQ(totals.peak_objects, stack.peak_objects);
      ASSERT_EQ(totals.peak_bytes, stack.peak_bytes);
    }
  };
  for (int i = 0; i < hak_unit::Operations(20000); i++) {
    if (stacks.empty() || (stacks.size() < 30 && random.OneIn(50))) {
      void *frame = Address(stacks.size());
      stacks.push_back({hak_stack_number(&frame, 1), {}, 0, 0, 0, 0});
    }
    Stack &stack = stacks[random.Below(stacks.size())];
    // The heap grows for a while, and shrinks for a while.
    const bool grows = random.Below(100) < (i / 500 % 2 == 0 ? 70u : 30u);
    if (grows || stack.live.empty()) {
      const uint64_t size = 1 + random.Below(1000);
      hak_stack_count_in(stack.number, 2, size);
      stack.live.push_back(size);
      stack.objects += 2;
      stack.bytes += 2.0 * static_cast<double>(size);
      bytes += 2.0 * static_cast<double>(size);
    } else {
      const uint64_t size = stack.live.back();
      hak_stack_count_out(stack.number, 2, size);
      stack.live.pop_back();
      stack.objects -= 2;
      stack.bytes -= 2.0 * static_cast<double>(size);
      bytes -= 2.0 * static_cast<double>(size);
    }
    if (bytes > most) {
      most = bytes;
      for (Stack &each : stacks) {
        each.peak_objects = each.objects;
        each.peak_bytes = each.bytes;
      }
    }
    if (random.OneIn(10)) compare();
  }
  compare();
  EXPECT_LT(bytes, most);
}

TEST_F(Tables, SharesAreThoseOfTheLatestRound) {
  void *frames[2] = {Address(1), Address(2)};
  const uint32_t one = hak_stack_number(&frames[0], 1);
  const uint32_t other = hak_stack_number(&frames[1], 1);
  const auto share_of = [](uint32_t number) {
    return hak_stack_totals_of(hak_stack_record(number)).fragmentation_bytes;
  };
  hak_stack_begin_shares();
  hak_stack_add_share(one, 10);
  hak_stack_add_share(one, 5);
  EXPECT_EQ(share_of(one), 15);
  EXPECT_EQ(share_of(other), 0);
  hak_stack_begin_shares();
  EXPECT_EQ(share_of(one), 0);
  hak_stack_add_share(other, 3);
  hak_stack_add_share(one, 1);
  EXPECT_EQ(share_of(other), 3);
  EXPECT_EQ(share_of(one), 1);
}

TEST_F(Tables, WithoutMemoryNothingIsKept) {
  const hak_unit::FaultPlan plan(HAK_FAULT_MAP);
  // Records of other boxes may have room for a few.
  uint64_t n = 1;
  hak_live_sample sample = SampleOf(n);
  while (n < 10000000 && hak_live_sample_put(&sample)) sample = SampleOf(++n);
  EXPECT_LT(n, 10000000u);
  hak_live_sample out = {};
  for (uint64_t known = 1; known < n; known++) {
    ASSERT_TRUE(hak_live_sample_take(Address(known), &out));
    ASSERT_TRUE(IsThat(out, known));
  }
  EXPECT_FALSE(hak_live_sample_take(Address(n), &out));
}

// The rule by which allocations are counted.
TEST(Sampler, CountsBytes) {
  hak_config.prof_sample_bytes = 0;
  hak_sample_state state = {};
  for (int i = 0; i < 10; i++) EXPECT_TRUE(hak_sampler_count(&state, 1));
  hak_config.prof_sample_bytes = 1 << 20;
  // The distance is drawn anew for another mean.
  uint64_t not_sampled = 0;
  while (!hak_sampler_count(&state, 16)) not_sampled++;
  EXPECT_LT(not_sampled, 40u * 65536) << "once in 10^17 runs";
  EXPECT_EQ(state.drawn_for, (1u << 20) + 1);
  hak_config.prof_sample_bytes = uint64_t{1} << 40;
  EXPECT_FALSE(hak_sampler_count(&state, 1)) << "otherwise once in 10^12 runs";
  state.left = 100;
  EXPECT_FALSE(hak_sampler_count(&state, 60));
  EXPECT_EQ(state.left, 40u);
  EXPECT_FALSE(hak_sampler_count(&state, 40));
  EXPECT_EQ(state.left, 0u);
  EXPECT_TRUE(hak_sampler_count(&state, 0)) << "a block of 0 bytes counts as one byte";
}

}  // namespace
