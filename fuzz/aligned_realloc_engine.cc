// SPDX-License-Identifier: Apache-2.0
#include "fuzz/aligned_realloc_engine.h"

#include <algorithm>
#include <array>

#include "allocator/policy/config.h"
#include "fuzz/heap_engine.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

using hak_test::Block;
using hak_test::HeapModel;

constexpr size_t kStepsMax = 128;
constexpr size_t kBlocks = 8;
// The most bytes that an input may request in all; the model writes and reads every one.
constexpr size_t kBudget = size_t{3} << 20;

class Input {
 public:
  explicit Input(HeapModel *model) : model_(model) {}

  void Step(const uint8_t *r) {
    if (!model_->ok()) return;
    Block &block = blocks_[r[1] % kBlocks];
    if (block.p == nullptr) {
      Allocate(r, &block);
      return;
    }
    switch (r[0] % 8) {
      case 0:
        model_->FreeSized(block);
        block.p = nullptr;
        return;
      case 1:
        model_->Free(block);
        block.p = nullptr;
        return;
      case 2:
        model_->ReallocArray(&block, 1 + r[7] % 5, Afford(DecodeSize(r)) / (1 + r[7] % 5U));
        return;
      case 3:
        model_->ReallocInPlace(&block, 1 + Afford(DecodeSize(r)));
        return;
      case 4:
        Row(r, &block, true);
        return;
      case 5:
        Row(r, &block, false);
        return;
      case 7:
        model_->AlignedRealloc(&block, size_t{1} << Power(r), Afford(DecodeSize(r)));
        return;
      default:
        model_->Realloc(&block, Afford(DecodeSize(r)));
        return;
    }
  }

  void End() {
    for (Block &block : blocks_) {
      if (block.p != nullptr && model_->ok()) model_->Free(block);
    }
  }

 private:
  size_t Afford(size_t size) {
    if (size > budget_) size %= 512;
    budget_ -= std::min(size, budget_);
    return size;
  }

  // Alignments above a page are rare, because they take much address space.
  static unsigned Power(const uint8_t *r) { return r[6] < 224 ? r[6] % 13U : r[6] % 23U; }

  void Allocate(const uint8_t *r, Block *block) {
    const size_t size = Afford(DecodeSize(r));
    const unsigned power = Power(r);
    switch (r[0] % 4) {
      case 0:
        model_->Malloc(size, block);
        return;
      case 1:
        model_->PosixMemalign(std::max<size_t>(8, size_t{1} << power), size, block);
        return;
      case 2:
        model_->Memalign((size_t{1} << power) + r[7] % (1U + (1U << power) / 2), size, block);
        return;
      default:
        if (r[7] % 2 != 0) {
          model_->AlignedCalloc(size_t{1} << power, 1 + r[7] / 64U, size / (1 + r[7] / 64U), block);
        } else {
          model_->AlignedAlloc(size_t{1} << power, size, block);
        }
        return;
    }
  }

  // A series of steps of one width, up or down, from the block's size.
  void Row(const uint8_t *r, Block *block, bool in_place) {
    const size_t width = Pair(r + 4) % (r[2] < 128 ? 64 : 8192) + 1;
    const bool up = r[7] >= 128;
    for (unsigned steps = 1 + r[7] % 8U; steps > 0 && block->p != nullptr && model_->ok(); --steps) {
      const size_t size = up ? Afford(block->requested + width) : block->requested - std::min(width, block->requested);
      if (in_place) {
        model_->ReallocInPlace(block, std::max<size_t>(size, 1));
      } else {
        model_->Realloc(block, size);
      }
    }
  }

  HeapModel *model_;
  size_t budget_ = kBudget;
  std::array<Block, kBlocks> blocks_;
};

bool KeepCachesFromOthers() {
  hak_trim(0);  // The first call sets the configuration.
  hak_config.idle_cache_ms = 0;
  return true;
}

}  // namespace

std::vector<hak_test::Violation> RunAlignedReallocInput(const hak_test::AllocatorApi &api, const uint8_t *data,
                                                        size_t size) {
  // Statistics are exact only while no other thread moves blocks, so a purge thread must leave caches alone.
  [[maybe_unused]] static const bool alone = KeepCachesFromOthers();
  HeapModel model(api);
  // Checks that take longer than a short input are made for some inputs only.
  static auto *chosen = new OneIn(32);
  const bool whole = chosen->Chooses(data, size);
  if (!whole) model.CheckSparsely();
  Input input(&model);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.End();
  if (model.ok()) model.CheckStatistics();
  if (model.ok() && whole) {
    model.CheckVerify();
    api.trim(0);
  }
  return model.violations();
}

}  // namespace hak_fuzz
