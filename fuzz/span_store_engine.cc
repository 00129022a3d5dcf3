// SPDX-License-Identifier: Apache-2.0
#include "fuzz/span_store_engine.h"

#include <string.h>

#include <array>

#include "allocator/large/colour.h"
#include "allocator/large/guarded.h"
#include "allocator/large/guarded_held.h"
#include "allocator/large/mapping.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab_map.h"
#include "allocator/slab/slab_pool.h"
#include "allocator/slab/slab_pool_look.h"
#include "allocator/slab/slab_release.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 128;
constexpr size_t kBlocks = 16;
constexpr size_t kSpanMax = HAK_SPAN_SLABS_MAX * HAK_SLAB_SIZE;
// What an input may hold together.
constexpr size_t kBudget = size_t{48} << 20;

struct Held {
  unsigned char *p = nullptr;
  size_t size = 0;
  size_t usable = 0;
  uint8_t tag = 0;
  bool span = false;  // not a mapping
  bool room = false;  // of a span: it leaves room for a colour
};

size_t SlabsFor(size_t size) { return std::max<size_t>(1, (size + HAK_SLAB_SIZE - 1) / HAK_SLAB_SIZE); }

// Whether a span's block of `size` bytes leaves room for a colour.
bool LeavesRoom(size_t size, size_t align) {
  return align <= HAK_MIN_ALIGN && size + HAK_COLOUR_BYTES <= SlabsFor(size) * HAK_SLAB_SIZE;
}

// How far behind its slab's start a span's block begins.
size_t FrontOf(const unsigned char *p) { return reinterpret_cast<uintptr_t>(p) & (HAK_SLAB_SIZE - 1); }

// Bytes that are written and read, each once and upwards: in each slab the first, the last, and one in between. Nothing
// else is ever written, so a block that has to be zero is where these bytes are. `sparse`: of a block beyond a span's
// size one slab in eight and the last one, for each page that is touched costs a fault.
template <typename Visit>
void EachMark(size_t size, bool sparse, const Visit &visit) {
  const size_t step = sparse && size > kSpanMax ? 8 * HAK_SLAB_SIZE : HAK_SLAB_SIZE;
  for (size_t slab = 0; slab < size; slab += step) {
    if (size - slab <= step) slab = (size - 1) & ~(HAK_SLAB_SIZE - 1);
    const size_t last = std::min(slab + HAK_SLAB_SIZE, size) - 1;
    visit(slab);
    if (slab + 4097 < last) visit(slab + 4097);
    if (last != slab) visit(last);
  }
}

class Input {
 public:
  // `whole`: with a look at every slab of every block, and at all totals at the end.
  Input(const SpanStoreCalls &calls, bool whole) : calls_(calls), whole_(whole) {}
  ~Input() {
    hak_fault_clear();
    for (Held &held : held_) {
      if (held.p != nullptr) hak_large_free(held.p);
    }
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    Held &held = held_[r[1] % kBlocks];
    switch (r[0] % 16) {
      case 0:
        Totals();
        return;
      case 1:
        if (r[0] >= 240) GiveBack(r);
        return;
      case 2:
        Strangers(held);
        return;
      case 3:
        // The next steps may be refused.
        hak_fault_set(r[6] % 32 | (r[7] < 128 ? 0 : HAK_FAULT_PROTECT), 1 + r[7] % 4, 1 + r[6] / 32);
        faults_ = true;
        return;
      case 4:
      case 5:
      case 6:
      case 7:
        if (held.p != nullptr) {
          Resize(&held, r);
          return;
        }
        [[fallthrough]];
      default:
        if (held.p == nullptr) {
          Alloc(&held, r);
        } else {
          Free(&held);
        }
        return;
    }
  }

  void End() {
    hak_fault_clear();
    for (Held &held : held_) {
      if (held.p != nullptr) Free(&held);
    }
    if (whole_) Totals();
  }

  void Totals() const {
    size_t spans = 0;
    size_t span_bytes = 0;
    size_t mappings = 0;
    size_t mapping_bytes = 0;
    for (const Held &held : held_) {
      if (held.p == nullptr) continue;
      (held.span ? spans : mappings)++;
      (held.span ? span_bytes : mapping_bytes) += held.usable;
    }
    const struct hak_pool_totals pool = hak_pool_totals();
    // Blocks that guards were refused for lie in spans, whole pages of them.
    Check(pool.spans == spans && (HAK_GUARDED || pool.span_bytes == span_bytes), "spans are miscounted");
    if (HAK_GUARDED) {
      const struct hak_guarded_totals guarded = hak_guarded_totals();
      Check(guarded.blocks == spans + mappings && guarded.bytes == span_bytes + mapping_bytes,
            "guarded blocks are miscounted");
    } else {
      const struct hak_mapping_totals mapping = hak_mapping_totals();
      Check(mapping.blocks == mappings && mapping.bytes == mapping_bytes, "mappings are miscounted");
    }
    const char *fault = hak_pool_verify();
    Check(fault == nullptr, fault);
    fault = HAK_GUARDED ? hak_guarded_verify() : hak_mapping_verify();
    Check(fault == nullptr, fault);
  }

 private:
  static size_t Size(const uint8_t *r) {
    const size_t raw = Pair(r + 4);
    // Whole slabs and their neighbours most of the time; small mappings seldom, for they take system calls.
    if (r[2] < 96) return 1 + raw % 4 * HAK_SLAB_SIZE;
    if (r[2] < 160) return raw % 17 == 0 ? 1 : raw % 17 * HAK_SLAB_SIZE + (raw / 17 + 1) % 3 - 1;
    if (r[2] < 250) return 1 + raw * 16 % (kSpanMax / 4);
    if (r[2] < 252) return kSpanMax + 1 + raw * 16;
    return raw;
  }

  static size_t Align(const uint8_t *r) {
    // Above a slab's size seldom: that takes a mapping.
    const unsigned choice = r[3] / 4U;
    return choice < 62 ? size_t{16} << (choice % 13) : HAK_SLAB_SIZE << (choice - 61);
  }

  size_t Total() const {
    size_t total = 0;
    for (const Held &held : held_) total += held.usable;
    return total;
  }

  void CheckPlace(const Held &held) const {
    for (const Held &other : held_) {
      if (&other == &held || other.p == nullptr) continue;
      Check(held.p + held.usable <= other.p || other.p + other.usable <= held.p, "two blocks share memory");
    }
  }

  // The usable size that the rules give a span's block.
  static size_t SpanUsable(size_t size, bool room) {
    return SlabsFor(room ? size + HAK_COLOUR_BYTES : size) * HAK_SLAB_SIZE - (room ? HAK_COLOUR_BYTES : 0);
  }

  // What malloc gives for `size` bytes: hak_large_good_size.
  static size_t GoodSize(size_t size) {
    if (HAK_GUARDED) return size;
    if (size <= kSpanMax) return SpanUsable(size, LeavesRoom(size, HAK_MIN_ALIGN));
    return hak_round_up(size + HAK_COLOUR_BYTES, hak_os_page_size()) - HAK_COLOUR_BYTES;
  }

  void CheckUsable(const Held &held) const {
    Check(calls_.usable(held.p) == held.usable, "the usable size is not stable");
    // A mapping may be a freed one that is somewhat larger.
    const bool good = HAK_GUARDED ? held.usable == held.size
                      : held.span ? held.usable == SpanUsable(held.size, held.room)
                                  : held.usable >= held.size;
    Check(good, "another usable size");
  }

  void Alloc(Held *held, const uint8_t *r) {
    const size_t size = Size(r);
    const size_t align = Align(r);
    if (Total() + size > kBudget) return;
    const bool zero = (r[3] & 1) != 0;
    const uint64_t hits = hak_fault_hits();
    auto *p = static_cast<unsigned char *>(calls_.alloc(size, align, zero, true));
    if (p == nullptr) {
      Check(faults_ && hak_fault_hits() > hits, "a block is refused for no reason");
      return;
    }
    const bool span = hak_slab_map_find(p) == HAK_CLASS_SPAN;
    const bool room = span && LeavesRoom(size, align);
    *held = {p, size, calls_.usable(p), static_cast<uint8_t>(1 + next_tag_++ % 255), span, room};
    Check(reinterpret_cast<uintptr_t>(p) % align == 0, "not aligned");
    // Guards that the system refuses are gone without, in a span.
    Check(HAK_GUARDED ? !span || faults_ : span == (size <= kSpanMax && align <= HAK_SLAB_SIZE),
          "a span where a mapping belongs, or the other way round");
    if (span) {
      Check(FrontOf(p) == 0 ||
                (room && !HAK_GUARDED && FrontOf(p) <= HAK_COLOUR_BYTES && FrontOf(p) % HAK_CACHE_LINE == 0),
            "a colour that cannot be");
    }
    CheckUsable(*held);
    CheckPlace(*held);
    Check(calls_.good_size(size) == GoodSize(size), "hak_large_good_size");
    if (!HAK_GUARDED && align <= HAK_MIN_ALIGN) Check(held->usable >= GoodSize(size), "less than hak_large_good_size");
    // In one go: a page that is only read first is faulted in twice.
    if (zero) {
      EachMark(size, Sparse(),
               [&](size_t at) { Check(__atomic_exchange_n(&p[at], held->tag, __ATOMIC_RELAXED) == 0, "not zero"); });
    }
    Mark(held);
  }

  bool Sparse() const { return !whole_; }
  void Mark(Held *held) const {
    EachMark(held->usable, Sparse(), [&](size_t at) { held->p[at] = held->tag; });
  }
  // The first `bytes` of what was marked when the block had `usable` bytes.
  void CheckMarks(const unsigned char *p, uint8_t tag, size_t usable, size_t bytes) const {
    EachMark(usable, Sparse(), [&](size_t at) { Check(at >= bytes || p[at] == tag, "a block lost its contents"); });
  }

  void Free(Held *held) {
    CheckMarks(held->p, held->tag, held->usable, held->usable);
    Check(calls_.usable(held->p) == held->usable, "the usable size is not stable");
    Check(calls_.free(held->p), "a live block is not known");
    held->p = nullptr;
    held->usable = 0;
  }

  // Whether the span could be `slabs` long where it is: what follows belongs to nobody.
  bool RoomFor(const Held &held, size_t slabs) const {
    const unsigned char *end = held.p - FrontOf(held.p) + slabs * HAK_SLAB_SIZE;
    const uintptr_t superslab_end = (reinterpret_cast<uintptr_t>(held.p) | (HAK_SUPERSLAB_SIZE - 1)) + 1;
    if (reinterpret_cast<uintptr_t>(end) > superslab_end) return false;
    for (const Held &other : held_) {
      if (&other != &held && other.p != nullptr && other.p > held.p && other.p < end) return false;
    }
    return true;
  }

  void Resize(Held *held, const uint8_t *r) {
    const size_t size = Size(r);
    if (Total() - held->usable + size > kBudget) return;
    const bool span = held->span;
    const bool may_move = (r[3] & 2) != 0;
    CheckMarks(held->p, held->tag, held->usable, held->usable);
    const size_t before = held->usable;
    auto *p = static_cast<unsigned char *>(calls_.resize(held->p, size, may_move));
    // A block at its span's start may do without the room for a colour.
    const bool room = FrontOf(held->p) != 0 || (held->room && LeavesRoom(size, HAK_MIN_ALIGN));
    if (span && !HAK_GUARDED) {
      const size_t whole = room ? size + HAK_COLOUR_BYTES : size;
      const bool fits = size <= kSpanMax && whole <= kSpanMax && RoomFor(*held, SlabsFor(whole));
      Check((p != nullptr) == fits, "a span is resized where there is no room, or not where there is");
    }
    if (HAK_GUARDED) {
      const size_t page = hak_os_page_size();
      const bool fits = size != 0 && hak_round_up(size, page) == hak_round_up(std::max<size_t>(before, 1), page);
      Check((p != nullptr) == fits, "a guarded block is resized into other pages, or not in its own");
    }
    if (p == nullptr) {
      Check(calls_.usable(held->p) == before, "a refused resize changed the block");
      CheckMarks(held->p, held->tag, before, before);
      return;
    }
    Check(p == held->p || may_move, "moved without leave");
    held->p = p;
    held->size = size;
    held->room = span && room;
    held->usable = calls_.usable(p);
    CheckUsable(*held);
    CheckPlace(*held);
    CheckMarks(p, held->tag, before, std::min(before, size));
    Mark(held);
  }

  // What is not a large block is neither freed nor resized, and has no size.
  void Strangers(const Held &held) const {
    static unsigned char stranger[HAK_SLAB_SIZE];
    Check(!calls_.free(stranger) && calls_.usable(stranger) == 0, "a stranger is taken for a block");
    if (held.p == nullptr) return;
    Check(calls_.usable(held.p + 16) == 0 && !calls_.free(held.p + 16), "the middle of a block is taken for a block");
    if (held.usable > HAK_SLAB_SIZE) {
      Check(calls_.usable(held.p + HAK_SLAB_SIZE) == 0 && !calls_.free(held.p + HAK_SLAB_SIZE),
            "the second slab of a block is taken for a block");
    }
  }

  void GiveBack(const uint8_t *r) const {
    // What inputs before left: that is not for this one.
    if (next_tag_ == 0) return;
    if (r[3] % 2 == 0) {
      hak_pool_trim(Pair(r + 4) * size_t{1024});
      hak_mapping_trim();
      hak_held_trim();
    } else {
      // As if the deadline had come.
      while (hak_pool_tick(UINT64_MAX)) {
        if (faults_) break;  // What the system refuses is tried again for ever.
      }
    }
  }

  const SpanStoreCalls &calls_;
  const bool whole_;
  std::array<Held, kBlocks> held_;
  unsigned next_tag_ = 0;
  bool faults_ = false;
};

}  // namespace

void RunSpanStoreInput(const SpanStoreCalls &calls, const uint8_t *data, size_t size) {
  static const bool ready = [] {
    hak_slab_map_init(HAK_SLAB_MAP_AUTO);
    // Time is not to decide anything.
    hak_config.decommit_deadline_ms = uint64_t{1} << 40;
    hak_config.mapping_cache_bytes = size_t{32} << 20;
    return true;
  }();
  Check(ready, "not ready");
  static auto *chosen = new OneIn(8);
  Input input(calls, chosen->Chooses(data, size));
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.End();
}

}  // namespace hak_fuzz
