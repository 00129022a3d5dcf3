// SPDX-License-Identifier: Apache-2.0
#include "fuzz/meta_engine.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <vector>

#include "allocator/meta/meta_pages.h"
#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 128;
constexpr size_t kPlaces = 32;
constexpr size_t kMiB = size_t{1} << 20;
// What an input may hold together.
constexpr size_t kBudget = 8 * kMiB;
constexpr uint64_t kDeadline = 1000;
// Records beyond this size have a mapping of their own.
constexpr size_t kPagesMax = HAK_META_PAGE << (HAK_META_ORDERS - 1);
constexpr size_t kLine = 64;

struct Held {
  unsigned char *p = nullptr;
  size_t size = 0;    // as requested
  size_t usable = 0;  // as the model has it
  size_t zero = 0;    // bytes at the start that rest
  uint8_t mark = 0;
};

// What a line of a record holds: it looks like a free record, for what a used one holds must not matter.
struct Line {
  void *links[2];
  uint32_t shift;
  uint32_t mark;
};

// Records with a mapping of their own are recycled by size and never unmapped: the most of each size at a time is how
// many there are. Kept from input to input.
struct Big {
  std::array<uint64_t, 8 * sizeof(size_t)> live = {};
  std::array<uint64_t, 8 * sizeof(size_t)> most = {};

  uint64_t Bytes() const {
    uint64_t bytes = 0;
    for (size_t shift = 0; shift < most.size(); ++shift) bytes += most[shift] << shift;
    return bytes;
  }
};
Big *TheBig() {
  static Big big;
  return &big;
}

// The clock of the ticks, which never goes back.
uint64_t *Clock() {
  static uint64_t clock = hak_os_now_ms();
  return &clock;
}

size_t Usable(size_t size) {
  size_t usable = kLine;
  while (usable < size) usable *= 2;
  return usable;
}

class Input {
 public:
  // `whole`: with a look at the totals after each step, and at what is left at the end.
  Input(const MetaCalls &calls, bool whole) : calls_(calls), whole_(whole) {
    hak_config.decommit_deadline_ms = kDeadline;
    others_ = hak_commit_now() - hak_meta_committed();
  }
  ~Input() {
    hak_fault_clear();
    for (const Held &held : held_) {
      if (held.p == nullptr) continue;
      if (held.zero != 0) hak_meta_wake(held.size);
      hak_meta_free(held.p, held.size);
    }
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    Run(r);
    if (whole_) Totals();
  }

  void End() {
    hak_fault_clear();
    for (Held &held : held_) {
      if (held.p != nullptr) Free(&held);
    }
    Totals();
    if (!whole_) return;
    Trim();
    AllPages();
    Trim();
    // Every page was used, so of each chunk only the page with its head has memory.
    const uint64_t big = TheBig()->Bytes();
    const uint64_t heads = (hak_meta_mapped() - big) / HAK_META_CHUNK * HAK_META_PAGE;
    Check(hak_meta_committed() == big + heads || hak_os_page_size() != HAK_META_PAGE, "memory stays");
  }

 private:
  // While no record is live, all pages of all chunks can be had but the first ones.
  static void AllPages() {
    const uint64_t mapped = hak_meta_mapped();
    const uint64_t bytes = mapped - TheBig()->Bytes();
    Check(bytes % HAK_META_CHUNK == 0, "mapped memory is miscounted");
    std::vector<void *> pages(bytes / HAK_META_CHUNK * (HAK_META_CHUNK / HAK_META_PAGE - 1));
    for (void *&page : pages) page = hak_meta_alloc(HAK_META_PAGE);
    const bool good = mapped == hak_meta_mapped();
    for (void *page : pages) hak_meta_free(page, HAK_META_PAGE);
    Check(good, "a page is lost");
  }

  void Run(const uint8_t *r) {
    Held &held = held_[r[1] % kPlaces];
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
      case 3:
        if (held.p != nullptr) {
          RestOrWake(&held);
          return;
        }
        [[fallthrough]];
      case 4:
        if (r[0] >= 208) {
          hak_fault_set(r[6], 1 + r[7] % 4, 1 + r[4] % 8);
          return;
        }
        [[fallthrough]];
      default:
        if (held.p == nullptr) {
          Alloc(&held, Size(r));
        } else {
          Free(&held);
        }
        return;
    }
  }

  static size_t Size(const uint8_t *r) {
    const size_t raw = Pair(r + 4);
    if (r[2] < 160) return raw % (HAK_META_PAGE / 2 + 1);
    if (r[2] < 232) return raw * 2;
    // With a mapping of its own.
    if (r[2] < 252) return kPagesMax + 1 + raw * 12;
    return SIZE_MAX - raw;
  }

  template <typename Visit>
  static void EachLine(const Held &held, const Visit &visit) {
    for (size_t at = 0; at < held.usable; at += kLine) {
      Line line;
      memcpy(&line, held.p + at, sizeof line);
      visit(at, line);
    }
  }
  static Line Marked(const Held &held) {
    Line line = {};
    line.shift = 6U + held.mark % 6U;
    line.mark = held.mark;
    return line;
  }
  void Mark(Held *held) {
    held->mark = static_cast<uint8_t>(1 + next_mark_++ % 255);
    held->zero = 0;
    const Line wanted = Marked(*held);
    for (size_t at = 0; at < held->usable; at += kLine) memcpy(held->p + at, &wanted, sizeof wanted);
  }
  static void CheckContents(const Held &held) {
    const Line wanted = Marked(held);
    const Line zero = {};
    EachLine(held, [&](size_t at, const Line &line) {
      const bool rests = at < held.zero;
      Check(memcmp(&line, rests ? &zero : &wanted, sizeof line) == 0,
            rests ? "a record that rests does not read as zero" : "a record lost its contents");
    });
  }
  static void CheckZero(const Held &held) {
    const bool zero = held.p[0] == 0 && memcmp(held.p, held.p + 1, held.usable - 1) == 0;
    Check(zero, "not zero");
  }

  size_t Total() const {
    size_t total = 0;
    for (const Held &held : held_) total += held.usable;
    return total;
  }

  void Alloc(Held *held, size_t size) {
    if (size > kBudget) {
      Check(calls_.alloc(size) == nullptr, "a record that is too large");
      return;
    }
    const size_t usable = Usable(size);
    Check(hak_meta_usable(size) == usable, "another size");
    if (Total() + usable > kBudget) return;
    const uint64_t hits = hak_fault_hits();
    auto *p = static_cast<unsigned char *>(calls_.alloc(size));
    if (p == nullptr) {
      Check(hak_fault_hits() > hits, "a record is refused for no reason");
      return;
    }
    const size_t align = usable > kPagesMax ? hak_os_page_size() : usable;
    Check(reinterpret_cast<uintptr_t>(p) % align == 0, "not aligned");
    for (const Held &other : held_) {
      Check(other.p == nullptr || p + usable <= other.p || other.p + other.usable <= p, "two records share bytes");
    }
    *held = {p, size, usable, 0, 0};
    CountBig(*held, 1);
    CheckZero(*held);
    Mark(held);
  }

  void Free(Held *held) {
    CheckContents(*held);
    if (held->zero != 0) calls_.wake(held->size);
    CountBig(*held, -1);
    const Held record = *held;
    *held = {};
    calls_.free(record.p, record.size);
  }

  static void CountBig(const Held &held, int more) {
    if (held.usable <= kPagesMax) return;
    const auto shift = static_cast<size_t>(__builtin_ctzll(held.usable));
    Big *big = TheBig();
    big->live[shift] += static_cast<uint64_t>(more);
    big->most[shift] = std::max(big->most[shift], big->live[shift]);
  }

  void RestOrWake(Held *held) {
    CheckContents(*held);
    if (held->zero != 0) {
      calls_.wake(held->size);
      Mark(held);
      return;
    }
    const uint64_t hits = hak_fault_hits();
    if (calls_.rest(held->p, held->size)) {
      held->zero = hak_round_up(held->size, hak_os_page_size());
      Check(held->size != 0 && held->zero <= held->usable, "a record rests that is not of whole pages");
    } else {
      const bool can = held->size != 0 && hak_meta_can_rest(held->size);
      Check(!can || hak_fault_hits() > hits, "a record cannot rest for no reason");
    }
    CheckContents(*held);
  }

  void Totals() const {
    const uint64_t mapped = hak_meta_mapped();
    const uint64_t committed = hak_meta_committed();
    size_t used = 0;
    for (const Held &held : held_) used += held.usable - held.zero;
    Check(used <= committed && committed <= mapped && Total() <= mapped, "memory is miscounted");
    Check(hak_meta_idle_bytes() <= committed - used, "idle memory is miscounted");
    Check(hak_commit_now() - committed == others_, "committed memory is miscounted");
  }

  void Trim() const {
    const uint64_t committed = hak_meta_committed();
    const uint64_t mapped = hak_meta_mapped();
    const uint64_t hits = hak_fault_hits();
    const size_t bytes = calls_.trim();
    Check(bytes == committed - hak_meta_committed() && mapped == hak_meta_mapped(), "a trim is miscounted");
    Check(hak_meta_pages_idle_bytes() == 0 || hak_fault_hits() != hits, "a trim leaves memory");
  }

  void Tick(uint64_t ms) const {
    *Clock() += ms;
    const uint64_t before = hak_meta_committed();
    const bool worked = calls_.tick(*Clock());
    const uint64_t after = hak_meta_committed();
    Check(worked ? after < before : after == before, "a tick is not what it says");
    Check(before - after < HAK_META_CHUNK, "a tick gives too much back");
  }

  const MetaCalls &calls_;
  const bool whole_;
  std::array<Held, kPlaces> held_;
  uint64_t others_ = 0;  // committed, but not for records
  unsigned next_mark_ = 0;
};

}  // namespace

void RunMetaInput(const MetaCalls &calls, const uint8_t *data, size_t size) {
  static auto *chosen = new OneIn(8);
  Input input(calls, chosen->Chooses(data, size));
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.End();
}

}  // namespace hak_fuzz
