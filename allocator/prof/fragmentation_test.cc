// SPDX-License-Identifier: Apache-2.0
//
// Shares in what lies free in slabs, against figures worked out by hand.
#include "allocator/prof/fragmentation.h"

#include <vector>

#include "allocator/os/unit_test.h"
#include "allocator/prof/sampler.h"
#include "allocator/slab/unit_test.h"

namespace {

using hak_unit::kSmall;
using hak_unit::SomeOwner;

constexpr uint32_t kCarved = 100;
constexpr uint32_t kFree = 30;

// A slab with kCarved blocks, of which kFree are free, and empty tables of samples.
class Fragmentation : public hak_unit::Pool {
 protected:
  Fragmentation() : slab_(hak_pool_take(kSmall, SomeOwner(), true)), blocks_(kCarved) {
    EXPECT_EQ(hak_slab_carve(slab_, blocks_.data(), kCarved), kCarved);
    for (uint32_t i = 0; i < kFree; i++) EXPECT_TRUE(hak_slab_put(slab_, hak_slab_block_index(slab_, blocks_[i])));
    hak_sampler_lock();
    hak_live_samples_start_anew();
    hak_stack_table_start_anew();
    hak_sampler_unlock();
  }
  ~Fragmentation() override {
    SetRemote(0);
    for (uint32_t i = kFree; i < kCarved; i++) hak_slab_put(slab_, hak_slab_block_index(slab_, blocks_[i]));
    hak_pool_give(slab_);
  }

  // Blocks that other threads have freed, and that have not come back to the slab.
  void SetRemote(uint64_t blocks) { atomic_store_explicit(&slab_->remote, blocks << 32, memory_order_relaxed); }

  // A sampled block at a stack of its own, which stands for `weight` blocks. Returns the stack's number.
  uint32_t Sample(uint32_t class_id, double weight) {
    void *frame = &blocks_[samples_ + 1];
    hak_sampler_lock();
    hak_live_sample sample = {};
    sample.address = blocks_[kCarved - 1 - samples_++];
    sample.weight = weight;
    sample.class_id = class_id;
    sample.stack = hak_stack_number(&frame, 1);
    EXPECT_TRUE(hak_live_sample_put(&sample));
    hak_sampler_unlock();
    return sample.stack;
  }

  static double ShareOf(uint32_t stack) {
    void *const *frame;
    uint32_t frames;
    hak_stack_totals totals = {};
    EXPECT_TRUE(hak_sampler_stack(stack, &frame, &frames, &totals));
    return totals.fragmentation_bytes;
  }

  // Blocks that share the free ones, if `held` lie in slabs.
  static double Sharers(uint32_t held, uint32_t samples) { return HAK_GUARDED ? held : held + samples; }

  hak_slab *slab_;
  std::vector<void *> blocks_;
  uint32_t samples_ = 0;
  hak_fragmentation work_;
};

TEST_F(Fragmentation, LiveBlocksShareAlike) {
  const uint32_t one = Sample(kSmall, 20);
  const uint32_t other = Sample(kSmall, 15);
  const uint32_t of_another_class = Sample(kSmall + 1, 1000);
  const uint32_t of_no_class = Sample(HAK_CLASS_NONE, 1000);
  const double bytes = kFree * static_cast<double>(hak_class_stride(kSmall));
  EXPECT_EQ(hak_fragmentation_share(&work_), static_cast<uint64_t>(bytes));
  const double each = bytes / Sharers(kCarved - kFree, 2);
  EXPECT_NEAR(ShareOf(one), 20 * each, 1e-6);
  EXPECT_NEAR(ShareOf(other), 15 * each, 1e-6);
  EXPECT_EQ(ShareOf(of_another_class), 0);
  EXPECT_EQ(ShareOf(of_no_class), 0);
  hak_fragmentation_share(&work_);
  EXPECT_NEAR(ShareOf(one), 20 * each, 1e-6) << "not added up over two profiles";
}

TEST_F(Fragmentation, BlocksThatOtherThreadsHaveFreedAreFree) {
  SetRemote(10);
  const uint32_t stack = Sample(kSmall, 20);
  const double bytes = (kFree + 10) * static_cast<double>(hak_class_stride(kSmall));
  EXPECT_EQ(hak_fragmentation_share(&work_), static_cast<uint64_t>(bytes));
  EXPECT_NEAR(ShareOf(stack), 20 * bytes / Sharers(kCarved - kFree - 10, 1), 1e-6);
}

TEST_F(Fragmentation, AHighEstimateDoesNotGiveAwayMoreThanThereIs) {
  const uint32_t one = Sample(kSmall, 300);
  const uint32_t other = Sample(kSmall, 100);
  const double bytes = static_cast<double>(hak_fragmentation_share(&work_));
  EXPECT_NEAR(ShareOf(one), bytes * 3 / 4, 1e-6);
  EXPECT_NEAR(ShareOf(other), bytes / 4, 1e-6);
}

TEST_F(Fragmentation, ClassesAreThoseOfTheTotals) {
  const struct hak_pool_totals totals = hak_pool_totals();
  hak_pool_classes(work_.slabs);
  for (uint32_t class_id = 0; class_id < HAK_CLASS_COUNT; class_id++) {
    EXPECT_EQ(work_.slabs[class_id].slabs, totals.classes[class_id].slabs) << class_id;
    EXPECT_EQ(work_.slabs[class_id].free_blocks, totals.classes[class_id].free_blocks) << class_id;
    EXPECT_EQ(work_.slabs[class_id].held_blocks, totals.classes[class_id].held_blocks) << class_id;
  }
  EXPECT_EQ(work_.slabs[kSmall].free_blocks, kFree);
}

}  // namespace
