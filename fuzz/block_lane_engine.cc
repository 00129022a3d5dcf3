// SPDX-License-Identifier: Apache-2.0
#include "fuzz/block_lane_engine.h"

#include <string.h>

#include <array>
#include <vector>

#include "allocator/block/block_check.h"
#include "allocator/block/poison.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/block/tiny_region_id.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 256;
constexpr size_t kBlocks = 8;
constexpr bool kHeaders = HAK_HEADER != HAK_HEADER_MODE_NONE;
constexpr bool kStates = HAK_HEADER == HAK_HEADER_MODE_ALWAYS;
// Blocks are so small that all of their bytes can be compared.
constexpr size_t kStrideMax = 512;

enum class Is { kFresh, kLive, kFree, kLinked };

struct BlockModel {
  Is is = Is::kFresh;
  uint8_t fill = 0;   // the contents of a live block
  uint32_t link = 0;  // the link of a linked block
};

class Input {
 public:
  Input(const BlockLaneCalls &calls, uint32_t class_id)
      : calls_(calls), class_id_(class_id), stride_(hak_class_stride(class_id)), usable_(hak_class_usable(class_id)) {
    for (size_t i = 0; i < kBlocks; ++i) calls_.carve(Block(i), class_id_);
    tiny_region_id_carve_behind(Block(kBlocks - 1), class_id_);
  }

  void Step(const uint8_t *record) {
    const size_t at = record[1] % kBlocks;
    BlockModel &block = blocks_[at];
    switch (record[0] % 8) {
      case 0:
      case 1:
      case 2:
        if (block.is == Is::kLive) {
          GoFree(at);
        } else {
          GoLive(at, record[6]);
        }
        break;
      case 3:
      case 4:
        // Onto a remote chain, and off it again. Only a free block carries a link.
        if (block.is == Is::kFree) {
          block.is = Is::kLinked;
          block.link = Pair(record + 2) % 4097;
          calls_.link_store(Block(at), block.link);
        } else if (block.is == Is::kLinked) {
          Check(calls_.link_load(Block(at)) == block.link, "another link comes back");
          hak_poison_link(Block(at));
          block.is = Is::kFree;
        }
        break;
      case 5:
        DamageHeader(at, record[5]);
        break;
      case 6:
        DamageContents(at, Pair(record + 2), record[5]);
        break;
      default:
        ForgeLink(at, record[5]);
        break;
    }
    CheckBlock(at);
    CheckBlock((at + 1) % kBlocks);
  }

  void CheckAll() const {
    for (size_t i = 0; i < kBlocks; ++i) CheckBlock(i);
  }

 private:
  // Block i lies behind block i - 1. The byte before the first block is its header.
  unsigned char *Block(size_t i) { return memory_.data() + HAK_MIN_ALIGN + i * stride_; }
  const unsigned char *Block(size_t i) const { return memory_.data() + HAK_MIN_ALIGN + i * stride_; }

  void GoLive(size_t at, uint8_t fill) {
    if (blocks_[at].is == Is::kLinked) return;
    if (HAK_BLOCK_CHECKS) calls_.check_out(Block(at), class_id_);
    blocks_[at] = {Is::kLive, fill, 0};
    memset(Block(at), fill, usable_);
  }

  void GoFree(size_t at) {
    if (HAK_BLOCK_CHECKS) calls_.check_in(Block(at), class_id_);
    blocks_[at].is = Is::kFree;
  }

  int WantedState(size_t at) const {
    // `preserve` has no other state than live.
    if (!kStates) return HAK_REGION_IS_LIVE;
    switch (blocks_[at].is) {
      case Is::kFresh:
        return HAK_REGION_IS_FRESH;
      case Is::kLive:
        return HAK_REGION_IS_LIVE;
      default:
        return HAK_REGION_IS_FREE;
    }
  }

  void CheckBlock(size_t at) const {
    const BlockModel &block = blocks_[at];
    if (kHeaders) Check(calls_.state(Block(at), class_id_) == WantedState(at), "a header says something else");
    if (block.is == Is::kLive) {
      for (size_t i = 0; i < usable_; ++i) Check(Block(at)[i] == block.fill, "a live block changed");
    } else if (block.is == Is::kLinked) {
      Check(calls_.link_load(Block(at)) == block.link, "a link changed");
      for (size_t i = HAK_NEXTPTR_OFFSET + HAK_NEXTPTR_BYTES; HAK_POISON_ON && i < usable_; ++i) {
        Check(Block(at)[i] == HAK_POISON_BYTE, "a link reaches beyond its place");
      }
    } else if (block.is == Is::kFree) {
      Check(calls_.poison_intact(Block(at), usable_), "poison of a free block is not seen as whole");
    }
  }

  // An invalid header is noticed. Restores it afterwards.
  void DamageHeader(size_t at, uint8_t value) {
    if (!kHeaders) return;
    unsigned char &header = Block(at)[-1];
    const unsigned char before = header;
    header = static_cast<unsigned char>(value ^ tiny_region_id_mask(Block(at)));
    const int state = calls_.state(Block(at), class_id_);
    int wanted = HAK_REGION_IS_BROKEN;
    if (value == (HAK_REGION_LIVE | class_id_)) wanted = HAK_REGION_IS_LIVE;
    if (value == class_id_) wanted = HAK_REGION_IS_FREE;
    if (value == HAK_REGION_FRESH) wanted = HAK_REGION_IS_FRESH;
    if (value == HAK_REGION_PURGED) wanted = HAK_REGION_IS_PURGED;
    Check(state == wanted, "a damaged header is taken for another one");
    header = before;
  }

  // A write to a free block is noticed, wherever it is.
  void DamageContents(size_t at, size_t offset, uint8_t value) {
    if (!HAK_POISON_ON || blocks_[at].is != Is::kFree) return;
    unsigned char &byte = Block(at)[offset % usable_];
    byte = value;
    Check(calls_.poison_intact(Block(at), usable_) == (value == HAK_POISON_BYTE), "a write after free is not seen");
    byte = HAK_POISON_BYTE;
  }

  // An overwritten link is not a block's index, except with a negligible probability.
  void ForgeLink(size_t at, uint8_t value) {
    if (HAK_FAST || blocks_[at].is != Is::kLinked) return;
    unsigned char saved[HAK_NEXTPTR_BYTES];
    unsigned char *place = Block(at) + HAK_NEXTPTR_OFFSET;
    memcpy(saved, place, sizeof saved);
    memset(place, value, sizeof saved);
    Check(calls_.link_load(Block(at)) > kSlabBlocks, "a forged link passes for a block");
    memcpy(place, saved, sizeof saved);
  }

  static constexpr uint64_t kSlabBlocks = HAK_SLAB_SIZE / HAK_MIN_ALIGN;

  const BlockLaneCalls &calls_;
  const uint32_t class_id_;
  const size_t stride_;
  const size_t usable_;
  std::array<BlockModel, kBlocks> blocks_;
  alignas(HAK_MIN_ALIGN) std::array<unsigned char, 2 * HAK_MIN_ALIGN + kBlocks * kStrideMax> memory_;
};

}  // namespace

BlockLaneCalls::BlockLaneCalls()
    : link_store([](void *block, uint32_t next) { tiny_nextptr_store(block, next); }),
      link_load([](const void *block) { return tiny_nextptr_load(block); }),
      carve(hak_block_make_fresh),
      check_out(hak_block_check_out),
      check_in(hak_block_check_in),
      state(
          [](const void *block, uint32_t class_id) { return static_cast<int>(tiny_region_id_state(block, class_id)); }),
      poison_intact([](const void *block, size_t usable) { return hak_poison_is_intact(block, usable); }) {}

void RunBlockLaneInput(const BlockLaneCalls &calls, const uint8_t *data, size_t size) {
  if (size < kRecord) return;
  static const std::vector<uint32_t> classes = [] {
    std::vector<uint32_t> found;
    for (uint32_t id = 1; id < HAK_CLASS_COUNT && hak_class_stride(id) <= kStrideMax; ++id) found.push_back(id);
    return found;
  }();
  // The same in every run, and not a value that an input could contain by chance.
  hak_nextptr_secret = 0x9e3779b97f4a7c15U;
  Input input(calls, classes[data[4] % classes.size()]);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.CheckAll();
}

}  // namespace hak_fuzz
