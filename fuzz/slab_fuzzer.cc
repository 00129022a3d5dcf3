// SPDX-License-Identifier: Apache-2.0
//
// A slab's blocks, taken from its bitmap, carved, and put back, against a set of numbers.
//
// An input is a row of records of eight bytes: byte 0 chooses the call, byte 1 the slab or the state of its memory,
// byte 2 the class, bytes 4 and 5 are a number of blocks or the choice of one.
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "allocator/tiny/slab.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace {

using hak_fuzz::Check;

class SlabModel {
 public:
  explicit SlabModel(hak_superslab *superslab) : superslab_(superslab) { Format(0, 1, true); }

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
        // A slab goes back to the pool and comes again when no block of it is in use.
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
      Check(hak_slab_bit(slab_, i) == (free_.count(i) != 0), "a bit is not as the model has it");
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
    free_.clear();
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

  // The index of a block that the slab gave, by division instead of multiplication.
  uint32_t IndexOf(const void *block) const {
    const auto *p = static_cast<const char *>(block);
    const char *end =
        reinterpret_cast<const char *>(superslab_) + (slab_->index + size_t{1}) * HAK_SLAB_SIZE - HAK_SLAB_GUARD;
    Check(p >= hak_slab_begin(slab_) + HAK_HEADER_BYTES && p + slab_->stride <= end, "a block outside its slab");
    const auto distance = static_cast<size_t>(end - p);
    Check(distance % slab_->stride == 0, "no block begins there");
    const auto index = static_cast<uint32_t>(distance / slab_->stride - 1);
    Check(hak_slab_of(block) == slab_, "hak_slab_of");
    Check(hak_slab_block(slab_, index) == block, "hak_slab_block");
    Check(hak_slab_index_of_freed(slab_, block) == index, "hak_slab_index_of_freed");
    return index;
  }

  void Take(uint32_t want) {
    void **out = Out(want);
    const uint32_t got = hak_slab_take_free(slab_, out, want);
    Check(got == std::min<size_t>(want, free_.size()), "take_free gave another number of blocks");
    // The lowest free ones, in order.
    for (uint32_t i = 0; i < got; ++i) {
      const uint32_t index = IndexOf(out[i]);
      Check(index == *free_.begin(), "take_free gave another block");
      free_.erase(free_.begin());
      held_.push_back(index);
    }
    CheckCounts();
  }

  void Carve(uint32_t want) {
    void **out = Out(want);
    const uint32_t got = hak_slab_carve(slab_, out, want);
    Check(got == std::min(want, slab_->capacity - carved_), "carve gave another number of blocks");
    carved_ += got;
    // From the lowest address up, and the lowest comes last.
    for (uint32_t i = 0; i < got; ++i) {
      const uint32_t index = IndexOf(out[i]);
      Check(index == slab_->capacity - carved_ + i, "carve gave another block");
      held_.push_back(index);
      // It is the program's now.
      memset(out[i], 0xA5, std::min<size_t>(hak_class_usable(class_id_), 64));
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
    Check(free_.insert(index).second, "the model had it free already");
    CheckCounts();
  }

  void PutTwice(uint32_t number) {
    if (free_.empty()) return;
    auto block = free_.lower_bound(number % slab_->capacity);
    if (block == free_.end()) block = free_.begin();
    Check(!hak_slab_put(slab_, *block), "put took a block that was free");
    CheckCounts();
  }

  void CheckCounts() const {
    Check(hak_slab_free_count(slab_) == free_.size(), "free_count");
    Check(hak_slab_carved(slab_) == carved_, "carved");
    Check(free_.empty() || slab_->first_word <= *free_.begin() / 64, "first_word is beyond a set bit");
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

  // Room for exactly `want` results, so that a sanitizer sees one too many.
  void **Out(uint32_t want) {
    out_ = std::make_unique<void *[]>(std::min<size_t>(want, HAK_SLAB_BLOCKS_MAX));
    return out_.get();
  }

  hak_superslab *superslab_;
  hak_slab *slab_ = nullptr;
  uint32_t class_id_ = 0;
  uint32_t carved_ = 0;
  std::set<uint32_t> free_;
  std::vector<uint32_t> held_;
  std::unique_ptr<void *[]> out_;
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // Kept between inputs; every slab is formatted before it is used.
  static auto *superslab = static_cast<hak_superslab *>(aligned_alloc(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE));
  if (superslab == nullptr) return 0;
  SlabModel model(superslab);
  const uint8_t *const all = data;
  const size_t all_size = size;
  for (; size >= hak_fuzz::kRecord; data += hak_fuzz::kRecord, size -= hak_fuzz::kRecord) model.Step(data);
  // Every bit; not for each input, because there are thousands.
  if (hak_fuzz::Fingerprint(all, all_size) % 16 == 0) model.CheckAll();
  return 0;
}
