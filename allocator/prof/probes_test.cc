// SPDX-License-Identifier: Apache-2.0
//
// The probes of the sampler as a tracer sees them: their notes, their arguments, and when they are passed.
#include "allocator/prof/probes.h"

#include <set>
#include <string>
#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/policy/config.h"
#include "allocator/prof/sampler.h"
#include "allocator/prof/test_tracer.h"

namespace {

using hak_unit::Argument;
using hak_unit::FindProbe;
using hak_unit::Passed;
using hak_unit::ProbeNote;
using hak_unit::RaisedSemaphore;
using hak_unit::Tracer;

void *Address(uint64_t n) { return reinterpret_cast<void *>(uintptr_t{0x10000000} + n * 16); }

// The text of what was passed: alloc ADDRESS/16 SIZE WEIGHTED, free ADDRESS/16.
std::string Text(const std::vector<Passed> &all) {
  std::string text;
  for (const Passed &one : all) {
    text += (one.is_alloc ? "alloc " : "free ") + std::to_string((one.argument[0] - 0x10000000) / 16);
    if (one.is_alloc) text += " " + std::to_string(one.argument[1]) + " " + std::to_string(one.argument[2]);
    text += "; ";
  }
  return text;
}

TEST(ProbeNotes, SayWhereTheProbesAre) {
  const ProbeNote alloc = FindProbe("alloc");
  const ProbeNote free = FindProbe("free");
  EXPECT_EQ(alloc.arguments, Argument(0) + " " + Argument(1) + " " + Argument(2));
  EXPECT_EQ(free.arguments, Argument(0));
  EXPECT_EQ(alloc.semaphore, reinterpret_cast<uintptr_t>(&hak_probe_alloc_semaphore));
  EXPECT_EQ(free.semaphore, reinterpret_cast<uintptr_t>(&hak_probe_free_semaphore));
  EXPECT_TRUE(alloc.in_file);
  EXPECT_TRUE(free.in_file);
  size_t ours = 0;
  for (const ProbeNote &note : hak_unit::ProbeNotes()) ours += note.provider == "otel_memory";
  EXPECT_EQ(ours, 2u);
}

TEST(ProbeSemaphores, EitherIsEnough) {
  EXPECT_FALSE(hak_probes_are_traced());
  {
    const RaisedSemaphore alloc(FindProbe("alloc").semaphore);
    EXPECT_TRUE(hak_probes_are_traced());
  }
  EXPECT_FALSE(hak_probes_are_traced());
  const RaisedSemaphore free(FindProbe("free").semaphore);
  EXPECT_TRUE(hak_probes_are_traced());
}

TEST(Probes, HaveTheirArguments) {
  Tracer tracer;
  hak_probe_alloc(Address(7), 100, 123456789012345);
  hak_probe_free(Address(8));
  EXPECT_EQ(Text(tracer.Take()), "alloc 7 100 123456789012345; free 8; ");
}

// ---- The sampler --------------------------------------------------------------------------------

class SamplerProbes : public testing::Test {
 protected:
  SamplerProbes() {
    hak_sampler_lock();
    hak_live_samples_start_anew();
    hak_stack_table_start_anew();
    hak_sampler_unlock();
    SetMean(0);
  }
  void SetMean(uint64_t bytes) {
    hak_config.prof_sample_bytes = bytes;
    state_ = {};
    state_.drawn_for = bytes + 1;
  }
  void Note(uint64_t n, uint64_t size) { hak_sampler_note(&state_, Address(n), size, 1, __builtin_return_address(0)); }
  std::string Passes() { return Text(tracer_.Take()); }

  hak_sample_state state_ = {};
  Tracer tracer_;
};

TEST_F(SamplerProbes, OfABlock) {
  Note(1, 40);
  EXPECT_EQ(Passes(), "alloc 1 40 40; ");
  EXPECT_TRUE(hak_sampler_forget(Address(1)));
  EXPECT_EQ(Passes(), "free 1; ");
  EXPECT_FALSE(hak_sampler_forget(Address(1))) << "it is not sampled any more";
  EXPECT_EQ(Passes(), "");
}

TEST_F(SamplerProbes, WeightsAreInBytes) {
  SetMean(512 << 10);
  // S / (1 - e^(-S / R)), rounded to the nearest.
  Note(1, 16);
  Note(2, 512 << 10);
  Note(3, 64 << 20);
  Note(4, 0);
  EXPECT_EQ(Passes(), "alloc 1 16 524296; alloc 2 524288 829411; alloc 3 67108864 67108864; alloc 4 0 0; ");
  for (uint64_t n = 1; n <= 4; n++) EXPECT_TRUE(hak_sampler_forget(Address(n)));
}

TEST_F(SamplerProbes, OfAResize) {
  hak_live_sample before;
  Note(1, 40);
  ASSERT_TRUE(hak_sampler_take_out(Address(1), &before));
  EXPECT_EQ(Passes(), "alloc 1 40 40; ") << "it may stay as it is";
  hak_sampler_put_back(&before);
  EXPECT_EQ(Passes(), "");
  ASSERT_TRUE(hak_sampler_take_out(Address(1), &before));
  hak_sampler_count_out(&before);
  EXPECT_EQ(Passes(), "free 1; ");
}

// A resize moved the block, and another thread was quick to get the old address.
TEST_F(SamplerProbes, ALateFreeDoesNotEndAnotherBlock) {
  hak_live_sample before;
  Note(1, 40);
  ASSERT_TRUE(hak_sampler_take_out(Address(1), &before));
  Note(1, 50);
  EXPECT_EQ(Passes(), "alloc 1 40 40; alloc 1 50 50; ");
  hak_sampler_count_out(&before);
  EXPECT_EQ(Passes(), "");
  EXPECT_TRUE(hak_sampler_forget(Address(1)));
  EXPECT_EQ(Passes(), "free 1; ");
}

// It was freed where nobody looked, and a tracer must not count it for ever.
TEST_F(SamplerProbes, ABlockThatIsThereStillIsFreedFirst) {
  Note(1, 40);
  Note(1, 50);
  EXPECT_EQ(Passes(), "alloc 1 40 40; free 1; alloc 1 50 50; ");
  EXPECT_TRUE(hak_sampler_forget(Address(1)));
}

TEST_F(SamplerProbes, WithoutRoomABlockIsFreedAtOnce) {
  const hak_unit::FaultPlan plan(HAK_FAULT_MAP);
  uint64_t n = 1;
  std::string last;
  for (; n < 10000000; n++) {
    Note(n, 40);
    last = Passes();
    if (last != "alloc " + std::to_string(n) + " 40 40; ") break;
  }
  EXPECT_EQ(last, "alloc " + std::to_string(n) + " 40 40; free " + std::to_string(n) + "; ");
  EXPECT_FALSE(hak_sampler_forget(Address(n)));
  hak_live_sample before;
  ASSERT_TRUE(hak_sampler_take_out(Address(1), &before));
  Note(n, 40);  // It takes the room.
  EXPECT_EQ(Passes(), "alloc " + std::to_string(n) + " 40 40; ");
  hak_sampler_put_back(&before);
  EXPECT_EQ(Passes(), "free 1; ");
}

// ---- On and off ---------------------------------------------------------------------------------

TEST(Tracing, SwitchesTheSampler) {
  EXPECT_FALSE(hak_sampler_follow_tracer());
  EXPECT_FALSE(hak_sampler_is_on());
  {
    const RaisedSemaphore semaphore(FindProbe("alloc").semaphore);
    EXPECT_FALSE(hak_sampler_is_on()) << "nobody has looked";
    EXPECT_TRUE(hak_sampler_follow_tracer());
    EXPECT_TRUE(hak_sampler_is_on());
    EXPECT_FALSE(hak_sampler_follow_tracer()) << "it has come before";
  }
  EXPECT_TRUE(hak_sampler_is_on());
  EXPECT_FALSE(hak_sampler_follow_tracer());
  EXPECT_FALSE(hak_sampler_is_on());
}

TEST(Tracing, LeavesTheSettingAlone) {
  hak_config.prof = true;
  hak_sampler_obey_setting();
  EXPECT_TRUE(hak_sampler_is_on());
  {
    const RaisedSemaphore semaphore(FindProbe("free").semaphore);
    EXPECT_TRUE(hak_sampler_follow_tracer());
    hak_config.prof = false;
    hak_sampler_obey_setting();
    EXPECT_TRUE(hak_sampler_is_on()) << "a tracer is there";
    hak_config.prof = true;
    hak_sampler_obey_setting();
  }
  EXPECT_FALSE(hak_sampler_follow_tracer());
  EXPECT_TRUE(hak_sampler_is_on()) << "the setting wants it";
  hak_config.prof = false;
  hak_sampler_obey_setting();
  EXPECT_FALSE(hak_sampler_is_on());
}

}  // namespace
