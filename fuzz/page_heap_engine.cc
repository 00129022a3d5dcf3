// SPDX-License-Identifier: Apache-2.0
#include "fuzz/page_heap_engine.h"

#include <array>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/pages/colour.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 128;
constexpr size_t kBlocks = 16;
constexpr size_t kMiB = size_t{1} << 20;
// The most bytes that an input may hold, and that may be free: below that, no run is unmapped except by a trim.
constexpr size_t kBudget = 48 * kMiB;
constexpr size_t kFreeMax = 64 * kMiB;
constexpr uint64_t kDeadline = 1000;
// The place of a page's mark, behind every place where a block can begin.
constexpr size_t kMark = HAK_PAGE_SIZE - 1;
// How much the records of runs and pages may grow in one input.
constexpr uint64_t kRecordsMax = kMiB;

struct Held {
  unsigned char *p = nullptr;
  size_t size = 0;  // of the run
  uint32_t front = 0;
  uint8_t tag = 0;
  uint8_t mark = 0;

  unsigned char *start() const { return p - front; }
};

void SetDefaults() {
  hak_config.decommit_deadline_ms = kDeadline;
  hak_config.mapping_cache_bytes = 32 * kMiB;
  hak_config.huge_pages = HAK_HUGE_PAGES_OFF;
}

// The clock of the ticks. It never goes back, because a tick sees what all earlier inputs have left.
uint64_t *Clock() {
  static uint64_t clock = hak_os_now_ms();
  return &clock;
}

class Input {
 public:
  // `whole`: checks every page of every block, and all totals after each step.
  Input(const PageHeapCalls &calls, bool whole) : calls_(calls), whole_(whole) {
    SetDefaults();
    committed_ = hak_commit_now() - hak_page_heap_totals().cached_bytes;
  }
  ~Input() {
    hak_fault_clear();
    for (const Held &held : held_) {
      if (held.p != nullptr) hak_page_heap_give(held.p);
    }
    SetDefaults();
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    Run(r);
    if (hak_page_heap_totals().free_bytes > kFreeMax) hak_page_heap_trim();
    if (whole_) Totals();
  }

  void End() {
    hak_fault_clear();
    faults_ = false;
    for (Held &held : held_) {
      if (held.p != nullptr) Give(&held);
    }
    Totals();
    if (!whole_) return;
    Trim();
    Check(hak_page_heap_totals().mapped_bytes == 0, "a trim leaves addresses");
  }

  void Totals() const {
    size_t blocks = 0;
    size_t bytes = 0;
    size_t runs = 0;
    for (const Held &held : held_) {
      if (held.p == nullptr) continue;
      blocks++;
      runs += held.size;
      bytes += held.size - (held.front != 0 ? HAK_COLOUR_BYTES : 0);
    }
    const struct hak_page_heap_totals totals = hak_page_heap_totals();
    Check(totals.blocks == blocks && totals.bytes == bytes, "blocks are miscounted");
    Check(totals.mapped_bytes == runs + totals.free_bytes, "addresses are miscounted");
    Check(totals.cached_bytes <= totals.free_bytes && hak_page_heap_free_memory() == totals.cached_bytes,
          "free memory is miscounted");
    const uint64_t committed = hak_commit_now() - runs - totals.cached_bytes;
    Check(committed >= committed_ && committed - committed_ <= kRecordsMax, "committed memory is miscounted");
    const char *fault = hak_page_heap_verify();
    Check(fault == nullptr, fault);
  }

 private:
  void Run(const uint8_t *r) {
    Held &held = held_[r[1] % kBlocks];
    switch (r[0] % 16) {
      case 0:
        Totals();
        return;
      case 1:
        if (r[0] >= 208) {
          Trim();
        } else {
          Tick(Pair(r + 4));
        }
        return;
      case 2:
        if (r[0] < 128) {
          Strangers(held);
        } else {
          Settings(r[6]);
        }
        return;
      case 3:
        // The next steps may fail.
        hak_fault_set(r[6] | (r[5] & 7U) << 8, 1 + r[7] % 4, 1 + r[4] % 8);
        faults_ = true;
        return;
      case 4:
        if (held.p != nullptr) {
          ThereAndBack(&held);
          return;
        }
        [[fallthrough]];
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
          Take(&held, r);
        } else {
          Give(&held);
        }
        return;
    }
  }

  static size_t Size(const uint8_t *r) {
    const size_t raw = Pair(r + 4);
    size_t pages = 1 + raw % 2048;
    if (r[2] < 160) {
      pages = 1 + raw % 32;
    } else if (r[2] < 224) {
      pages = 1 + raw % 300;
    } else if (r[2] < 248) {
      // Whole chunks and their neighbours.
      pages = (1 + raw % 4) * HAK_CHUNK_PAGES + (raw / 4 + 1) % 3 - 1;
    }
    return hak_round_up(pages * HAK_PAGE_SIZE, hak_os_page_size());
  }

  static size_t Align(const uint8_t *r) {
    const unsigned choice = r[3] / 4U;
    const size_t page = hak_os_page_size();
    return choice < 56 ? page : std::min(page << (2 * (choice - 56)), 64 * kMiB);
  }

  size_t Total() const {
    size_t total = 0;
    for (const Held &held : held_) total += held.size;
    return total;
  }

  // The last byte of some pages: the first page, the last one, and one in sixteen of those between, selected by
  // address, or with `whole_` all. Nothing else is ever written, so it suffices to check these bytes of a zeroed block.
  template <typename Visit>
  void EachMark(unsigned char *start, size_t size, const Visit &visit) const {
    for (size_t at = 0; at < size; at += HAK_PAGE_SIZE) {
      const bool edge = at == 0 || at + HAK_PAGE_SIZE == size;
      const bool chosen = reinterpret_cast<uintptr_t>(start + at) / HAK_PAGE_SIZE % 16 == 0;
      if (edge || chosen || whole_) visit(at + kMark);
    }
  }
  void Mark(Held *held) {
    held->mark = static_cast<uint8_t>(1 + next_mark_++ % 255);
    unsigned char *start = held->start();
    EachMark(start, held->size, [&](size_t at) { start[at] = held->mark; });
  }
  // The first `bytes` bytes of a run at `start` that was marked when it had `size` bytes.
  void CheckMarks(const unsigned char *start, const Held &held, size_t bytes) const {
    EachMark(held.start(), held.size,
             [&](size_t at) { Check(at >= bytes || start[at] == held.mark, "a block lost its contents"); });
  }

  void CheckPlace(const Held &held) const {
    const struct hak_page_block found = calls_.look(held.p);
    Check(found.size == held.size && found.front == held.front, "another size");
    const auto *entry = hak_page_entry_at(held.p);
    const uint32_t tag = held.tag != 0 ? held.tag | held.front / HAK_CACHE_LINE << 8 : 0;
    Check(entry != nullptr && hak_page_tag(entry) == tag, "another tag");
    for (const Held &other : held_) {
      if (&other == &held || other.p == nullptr) continue;
      Check(held.start() + held.size <= other.start() || other.start() + other.size <= held.start(),
            "two blocks share pages");
    }
  }

  void Take(Held *held, const uint8_t *r) {
    struct hak_page_request request = {};
    request.size = Size(r);
    request.align = Align(r);
    request.colours = r[6] < 128 ? 0 : r[6] % (HAK_COLOURS + 1);
    request.tag = r[7];
    request.grow = r[7] < 192;
    request.sparse = (r[7] & 1) != 0;
    if (Total() + request.size > kBudget) return;
    const uint64_t hits = hak_fault_hits();
    auto *p = static_cast<unsigned char *>(calls_.take(&request));
    if (p == nullptr) {
      Check(!request.grow || (faults_ && hak_fault_hits() > hits), "a block is refused for no reason");
      return;
    }
    const uint32_t front = calls_.look(p).front;
    Check((front != 0) == (request.colours != 0) && front <= request.colours * HAK_CACHE_LINE, "another colour");
    *held = {p, request.size, front, request.tag, 0};
    Check(reinterpret_cast<uintptr_t>(held->start()) % request.align == 0, "not aligned");
    CheckPlace(*held);
    if ((r[3] & 1) != 0) {
      calls_.clear(p, held->size - held->front);
      unsigned char *start = held->start();
      EachMark(start, held->size, [&](size_t at) { Check(start[at] == 0, "not zero"); });
    }
    Mark(held);
  }

  void Give(Held *held) {
    CheckMarks(held->start(), *held, held->size);
    CheckPlace(*held);
    unsigned char *p = held->p;
    *held = {};
    Check(calls_.give(p), "a live block is not known");
    Check(hak_chunk_of(p) != nullptr && calls_.look(p).size == 0, "a freed block is taken for a block");
    Check(!calls_.give(p), "a block is freed twice");
  }

  void Resize(Held *held, const uint8_t *r) {
    const size_t size = Size(r);
    if (Total() - held->size + size > kBudget) return;
    const bool may_move = (r[3] & 2) != 0;
    const uint64_t hits = hak_fault_hits();
    CheckMarks(held->start(), *held, held->size);
    auto *p = static_cast<unsigned char *>(calls_.resize(held->p, size, r[7], may_move));
    if (p == nullptr) {
      Check(size > held->size || hak_fault_hits() > hits, "a block cannot be made smaller");
      CheckPlace(*held);
      CheckMarks(held->start(), *held, held->size);
      return;
    }
    Check(p == held->p || may_move, "moved without leave");
    CheckMarks(p - held->front, *held, std::min(held->size, size));
    const size_t got = calls_.look(p).size;
    // A run with a tag has the size that the tag stands for.
    const size_t most = p != held->p && r[7] == 0 ? size + size / 8 + hak_os_page_size() : size;
    Check(got >= size && got <= most, "another size");
    *held = {p, got, held->front, r[7], 0};
    CheckPlace(*held);
    Mark(held);
  }

  // A block can grow again in place by what it has just given up.
  void ThereAndBack(Held *held) {
    const size_t half = hak_round_up(held->size / 2, hak_os_page_size());
    const size_t size = held->size;
    const uint64_t hits = hak_fault_hits();
    CheckMarks(held->start(), *held, size);
    bool good = calls_.resize(held->p, half, held->tag, false) == held->p;
    if (good) held->size = half;
    good = good && calls_.resize(held->p, size, held->tag, false) == held->p;
    if (good) held->size = size;
    Check(good || hak_fault_hits() > hits, "what follows is free, and the block cannot have it");
    CheckPlace(*held);
    Mark(held);
  }

  // An address that is not a block is neither freed nor resized, and has no size.
  void Strangers(const Held &held) const {
    static unsigned char stranger[HAK_PAGE_SIZE];
    Check(!calls_.give(stranger) && calls_.look(stranger).size == 0, "a stranger is taken for a block");
    if (held.p == nullptr) return;
    for (unsigned char *p : {held.p + 16, held.start() + held.size - 16, held.start() + held.size - HAK_PAGE_SIZE}) {
      if (p == held.p) continue;
      Check(calls_.look(p).size == 0 && !calls_.give(p) && calls_.resize(p, HAK_CHUNK_SIZE, 0, true) == nullptr,
            "the middle of a block is taken for a block");
    }
  }

  void Trim() const {
    const uint64_t cached = hak_page_heap_totals().cached_bytes;
    const uint64_t hits = hak_fault_hits();
    const size_t bytes = calls_.trim();
    if (hak_fault_hits() != hits) return;
    Check(hak_page_heap_totals().cached_bytes == 0, "a trim leaves memory");
    Check(bytes == cached, "a trim is miscounted");
  }

  void Tick(uint64_t ms) const {
    *Clock() += ms;
    const uint64_t before = hak_page_heap_free_memory();
    const bool worked = calls_.tick(*Clock());
    const uint64_t after = hak_page_heap_free_memory();
    Check(worked ? after < before : after == before || faults_, "a tick is not what it says");
  }

  static void Settings(uint8_t choice) {
    static constexpr size_t kBounds[] = {32 * kMiB, kMiB, 0, 8 * kMiB};
    static constexpr enum hak_huge_pages kHuge[] = {HAK_HUGE_PAGES_OFF, HAK_HUGE_PAGES_ON, HAK_HUGE_PAGES_AUTO};
    hak_config.mapping_cache_bytes = kBounds[choice % 4];
    hak_config.huge_pages = kHuge[choice / 4 % 3];
    hak_config.decommit_deadline_ms = choice >= 224 ? 0 : kDeadline;
  }

  const PageHeapCalls &calls_;
  const bool whole_;
  std::array<Held, kBlocks> held_;
  uint64_t committed_ = 0;  // beside live blocks and free memory
  unsigned next_mark_ = 0;
  bool faults_ = false;
};

}  // namespace

void RunPageHeapInput(const PageHeapCalls &calls, const uint8_t *data, size_t size) {
  static auto *chosen = new OneIn(8);
  Input input(calls, chosen->Chooses(data, size));
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.End();
}

}  // namespace hak_fuzz
