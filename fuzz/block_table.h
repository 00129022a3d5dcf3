// SPDX-License-Identifier: Apache-2.0
//
// A table of blocks with a number for each, for models that run on every input of a fuzzer. Unlike the containers of
// the library it allocates nothing, and emptying it costs only as much as its contents.
#ifndef HAKMEM_FUZZ_BLOCK_TABLE_H_
#define HAKMEM_FUZZ_BLOCK_TABLE_H_

#include <stddef.h>
#include <stdint.h>

#include <array>

namespace hak_fuzz {

class BlockTable {
 public:
  // The number of blocks for which there is room.
  static constexpr size_t kMost = 8192;

  // False: the block is already in the table, and nothing was done.
  bool Add(const void *block, uint64_t number) {
    size_t at = Home(block);
    for (; slots_[at].block != nullptr; at = (at + 1) % kSlots) {
      if (slots_[at].block == block) return false;
    }
    slots_[at] = {block, number};
    ++count_;
    return true;
  }

  bool Has(const void *block) const { return slots_[Find(block)].block != nullptr; }

  // Removes the block. False: it is not in the table, or has another number.
  bool Remove(const void *block, uint64_t number) {
    size_t hole = Find(block);
    if (slots_[hole].block == nullptr || slots_[hole].number != number) return false;
    // Entries that were stored past the hole move up, so that they are still found.
    for (size_t at = (hole + 1) % kSlots; slots_[at].block != nullptr; at = (at + 1) % kSlots) {
      if ((at - Home(slots_[at].block)) % kSlots < (at - hole) % kSlots) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole] = {};
    --count_;
    return true;
  }

  size_t count() const { return count_; }

  void Clear() {
    if (count_ != 0) slots_ = {};
    count_ = 0;
  }

 private:
  static constexpr size_t kSlots = 4 * kMost;
  struct Slot {
    const void *block = nullptr;
    uint64_t number = 0;
  };

  static size_t Home(const void *block) {
    return static_cast<size_t>(reinterpret_cast<uintptr_t>(block) / 16 * 0x9e3779b97f4a7c15U >> 40) % kSlots;
  }

  size_t Find(const void *block) const {
    size_t at = Home(block);
    while (slots_[at].block != nullptr && slots_[at].block != block) at = (at + 1) % kSlots;
    return at;
  }

  std::array<Slot, kSlots> slots_ = {};
  size_t count_ = 0;
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_BLOCK_TABLE_H_
