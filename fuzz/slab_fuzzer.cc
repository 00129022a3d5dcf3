// SPDX-License-Identifier: Apache-2.0
//
// A slab's blocks: taken from its bitmap, carved, and put back, against a set of numbers.
//
// An input is a sequence of records of eight bytes: byte 0 selects the call, byte 1 the slab or the state of its
// memory, byte 2 the class, bytes 4 and 5 are a number of blocks or select one.
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <vector>

#include "allocator/slab/slab.h"
#include "fuzz/exact_room.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace {

using hak_fuzz::Check;

// A set of block numbers, which allocates nothing.
class NumberSet {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool Has(uint32_t number) const { return has_[number]; }
  // For a set that is not empty.
  uint32_t Least() const { return AtLeast(least_); }
  // The least number that is at least this one, or kNone.
  uint32_t AtLeast(uint32_t number) const {
    if (size_ == 0) return kNone;
    while (number < end_ && !has_[number]) ++number;
    return number < end_ ? number : kNone;
  }

  // False: the number is already in the set.
  bool Add(uint32_t number) {
    if (has_[number]) return false;
    has_[number] = true;
    least_ = std::min(least_, number);
    end_ = std::max(end_, number + 1);
    ++size_;
    return true;
  }
  void RemoveLeast() {
    least_ = Least();
    has_[least_++] = false;
    --size_;
  }
  void Clear() {
    std::fill(has_.begin(), has_.begin() + end_, false);
    least_ = kNone;
    end_ = 0;
    size_ = 0;
  }

  static constexpr uint32_t kNone = HAK_SLAB_BLOCKS_MAX;

 private:
  std::array<bool, HAK_SLAB_BLOCKS_MAX> has_ = {};
  uint32_t least_ = kNone;  // none is below it
  uint32_t end_ = 0;        // all numbers are below
  size_t size_ = 0;
};

// Kept from one input to the next, because creating it would take longer than a short input. It is emptied before each
// use.
struct Kept {
  NumberSet free;
  std::vector<uint32_t> held;
  hak_fuzz::ExactRoom<void *> out{HAK_SLAB_BLOCKS_MAX};
};

Kept &TheKept() {
  static auto *kept = new Kept;
  return *kept;
}

class SlabModel {
 public:
  // `whole`: checks the place of every block by the box's functions.
  SlabModel(hak_superslab *superslab, bool whole)
      : superslab_(superslab), whole_(whole), free_(TheKept().free), held_(TheKept().held) {
    Format(0, 1, true);
  }

  ~SlabModel() {
    if (slab_ != nullptr) hak_slab_unformat(slab_);
  }
  SlabModel(const SlabModel &) = delete;
  SlabModel &operator=(const SlabModel &) = delete;

  void Step(const uint8_t *record) {
    if (slab_ == nullptr) return;
    const uint32_t number = record[4] | static_cast<uint32_t>(record[5]) << 8;
    switch (record[0] % 8) {
      case 0:
        // When no block of it is in use, a slab returns to the pool and is taken again.
        if (record[0] >= 224) Format(record[1] % HAK_SLABS_PER_SUPERSLAB, record[2], record[3] % 2 != 0);
        return;
      case 1:
      case 2:
        Take(number % 300);
        return;
      case 3:
        Carve(record[0] >= 192 ? number : number % 128);
        return;
      case 4:
        PutTwice(number);
        return;
      case 5: {
        // A run of neighbours, for words that fill up.
        for (uint32_t i = 0; i < record[1]; ++i) Put(number);
        return;
      }
      default:
        Put(number);
        return;
    }
  }

  void CheckAll() const {
    if (slab_ == nullptr) return;
    Check(hak_slab_free_count(slab_) == free_.size(), "free_count");
    Check(hak_slab_carved(slab_) == carved_, "carved");
    Check(free_.size() + held_.size() == carved_, "blocks got lost");
    for (uint32_t i = 0; i < slab_->capacity; ++i) {
      Check(hak_slab_bit(slab_, i) == free_.Has(i), "a bit is not as the model has it");
      Check(hak_slab_was_carved(slab_, i) == (i >= slab_->capacity - carved_), "hak_slab_was_carved");
    }
    Check(!hak_slab_was_carved(slab_, slab_->capacity), "a block beyond the capacity");
    for (uint32_t word = 0; word < slab_->first_word; ++word) {
      Check(slab_->free[word] == 0, "a bit below first_word");
    }
    CheckList();
  }

 private:
  void Format(uint32_t index, uint32_t class_number, bool zeroed) {
    if (slab_ != nullptr) hak_slab_unformat(slab_);
    held_.clear();
    free_.Clear();
    carved_ = 0;
    class_id_ = 1 + class_number % (HAK_CLASS_COUNT - 1);
    slab_ = &superslab_->slabs[index];
    slab_->index = static_cast<uint8_t>(index);
    if (!hak_slab_format(slab_, class_id_, zeroed)) {
      slab_ = nullptr;  // no memory for its bitmap
      return;
    }
    const size_t room = HAK_SLAB_ROOM - (index == 0 ? HAK_SUPERSLAB_HEAD : 0);
    Check(slab_->stride == hak_class_stride(class_id_), "stride");
    Check(slab_->class_id == class_id_, "class_id");
    Check((slab_->zeroed != 0) == zeroed, "zeroed");
    Check(slab_->capacity <= room / slab_->stride, "more blocks than the slab has room for");
    Check(slab_->capacity + 1 >= room / slab_->stride, "a block too few");
    CheckCounts();
  }

  // The i-th of `count` blocks that the slab returned must have the number `index`, counted from the slab's end by a
  // multiplication without a table. A check by the box's own functions takes longer.
  void CheckBlock(uint32_t i, uint32_t count, const void *block, uint32_t index, const char *what) const {
    const char *end =
        reinterpret_cast<const char *>(superslab_) + (slab_->index + size_t{1}) * HAK_SLAB_SIZE - HAK_SLAB_GUARD;
    Check(block == end - (index + size_t{1}) * slab_->stride, what);
    if (!whole_ && i >= 4 && i % 64 != 0 && i + 1 != count) return;
    Check(static_cast<const char *>(block) >= hak_slab_begin(slab_) + HAK_HEADER_BYTES, "a block outside its slab");
    Check(hak_slab_of(block) == slab_, "hak_slab_of");
    Check(hak_slab_block(slab_, index) == block, "hak_slab_block");
    Check(hak_slab_index_of_freed(slab_, block) == index, "hak_slab_index_of_freed");
  }

  void Take(uint32_t want) {
    void **out = Out(want);
    const uint32_t got = hak_slab_take_free(slab_, out, want);
    Check(got == std::min<size_t>(want, free_.size()), "take_free gave another number of blocks");
    // The lowest free blocks, in order.
    for (uint32_t i = 0; i < got; ++i) {
      const uint32_t index = free_.Least();
      CheckBlock(i, got, out[i], index, "take_free gave another block");
      free_.RemoveLeast();
      held_.push_back(index);
    }
    CheckCounts();
  }

  void Carve(uint32_t want) {
    void **out = Out(want);
    const uint32_t got = hak_slab_carve(slab_, out, want);
    Check(got == std::min(want, slab_->capacity - carved_), "carve gave another number of blocks");
    carved_ += got;
    // From the lowest address upwards, and the lowest comes last.
    for (uint32_t i = 0; i < got; ++i) {
      const uint32_t index = slab_->capacity - carved_ + i;
      CheckBlock(i, got, out[i], index, "carve gave another block");
      held_.push_back(index);
      // The program holds it now.
      const size_t usable = hak_class_usable(class_id_);
      memset(out[i], 0xA5, 8);
      if (whole_) memset(out[i], 0xA5, std::min<size_t>(usable, 64));
    }
    CheckCounts();
  }

  void Put(uint32_t number) {
    if (held_.empty()) return;
    uint32_t &chosen = held_[number % held_.size()];
    const uint32_t index = chosen;
    chosen = held_.back();
    held_.pop_back();
    Check(hak_slab_put(slab_, index), "put refused a block that was in use");
    Check(free_.Add(index), "the model had it free already");
    CheckCounts();
  }

  void PutTwice(uint32_t number) {
    if (free_.empty()) return;
    uint32_t block = free_.AtLeast(number % slab_->capacity);
    if (block == NumberSet::kNone) block = free_.Least();
    Check(!hak_slab_put(slab_, block), "put took a block that was free");
    CheckCounts();
  }

  void CheckCounts() const {
    Check(hak_slab_free_count(slab_) == free_.size(), "free_count");
    Check(hak_slab_carved(slab_) == carved_, "carved");
    Check(free_.empty() || slab_->first_word <= free_.Least() / 64, "first_word is beyond a set bit");
    CheckList();
  }

  void CheckList() const {
    const size_t free = free_.size();
    const size_t capacity = slab_->capacity;
    const auto at_most = [&](double share) {
      return static_cast<double>(free) <= share * static_cast<double>(capacity);
    };
    const hak_slab_list naive = carved_ < capacity ? HAK_LIST_CARVE
                                : free == 0        ? HAK_LIST_FULL
                                : at_most(0.125)   ? HAK_LIST_SCARCE
                                : at_most(0.25)    ? HAK_LIST_SOME
                                : at_most(0.5)     ? HAK_LIST_MANY
                                                   : HAK_LIST_MOST;
    Check(hak_slab_list_for(slab_) == naive, "hak_slab_list_for");
  }

  // Room for exactly `want` results, so that a sanitizer notices one too many.
  static void **Out(uint32_t want) { return TheKept().out.Of(std::min<size_t>(want, HAK_SLAB_BLOCKS_MAX)); }

  hak_superslab *superslab_;
  hak_slab *slab_ = nullptr;
  const bool whole_;
  uint32_t class_id_ = 0;
  uint32_t carved_ = 0;
  NumberSet &free_;
  std::vector<uint32_t> &held_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // Kept between inputs; every slab is formatted before it is used.
  static auto *superslab = static_cast<hak_superslab *>(aligned_alloc(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE));
  if (superslab == nullptr) return 0;
  // Checks every bit and every block's place. Not for each input, because there are thousands of blocks.
  static auto *chosen = new hak_fuzz::OneIn(8);
  const bool whole = chosen->Chooses(data, size);
  SlabModel model(superslab, whole);
  for (; size >= hak_fuzz::kRecord; data += hak_fuzz::kRecord, size -= hak_fuzz::kRecord) model.Step(data);
  if (whole) model.CheckAll();
  return 0;
}
