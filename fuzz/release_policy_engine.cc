// SPDX-License-Identifier: Apache-2.0
#include "fuzz/release_policy_engine.h"

#include "allocator/policy/config.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr size_t kStepsMax = 256;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kHard = 256 * kMiB;
constexpr uint64_t kSoft = kHard - kHard / 8;

// A number: powers of two and their neighbours, which include the thresholds of the policies, and both ends.
uint64_t Scale(uint8_t byte) {
  const unsigned power = byte / 4U;
  const uint64_t base = power == 0 ? 0 : uint64_t{1} << (power - 1);
  switch (byte % 4) {
    case 0:
      return base;
    case 1:
      return base - 1;  // for 0: the largest number
    case 2:
      return base + 1;
    default:
      return base + base / 8;
  }
}

uint64_t LeastOf(uint64_t a, uint64_t b) { return a < b ? a : b; }

class Input {
 public:
  explicit Input(const ReleasePolicyCalls &calls) : calls_(calls) {
    hak_config.memory_limit_bytes = kHard;
    hak_config.cgroup_limit = false;
    // The first call makes the account determine its limits; then it is reset.
    hak_limit_admit(0);
    hak_limit_purged(0);
  }
  ~Input() { hak_commit_sub(committed_); }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *r) {
    switch (r[0] % 12) {
      case 0:
      case 1:
        Superslab(r);
        return;
      case 2:
        Eagerly(r);
        return;
      case 3:
        Share(r);
        return;
      case 4:
        Slice(r);
        return;
      case 5:
        Judge(r);
        return;
      case 6:
        SoftLimit(r);
        return;
      case 7:
        NextPurge(r);
        return;
      default:
        Account(r);
        return;
    }
  }

 private:
  void Superslab(const uint8_t *r) const {
    const hak_release_facts facts = {
        .now_ms = Scale(r[1]),
        .free_since_ms = Scale(r[2]),
        .deadline_ms = Scale(r[3]),
        .empty_superslabs = r[4] % 16U,
        .keep_superslabs = r[5] % 16U,
        .free_bytes = Scale(r[6]),
        .keep_free_bytes = Scale(r[7]),
        .wholly_free = r[0] >= 128,
    };
    const bool due = Wide{facts.now_ms} >= Wide{facts.free_since_ms} + facts.deadline_ms ||
                     // With a clock behind the mark no time has passed, which suffices for a deadline of 0.
                     facts.deadline_ms == 0;
    hak_release_verdict wanted = HAK_RELEASE_KEEP;
    if (due) {
      const bool stays = facts.free_bytes != 0 && facts.free_bytes <= facts.keep_free_bytes;
      wanted = facts.wholly_free && facts.empty_superslabs > facts.keep_superslabs ? HAK_RELEASE_UNMAP
               : stays                                                             ? HAK_RELEASE_KEEP
                                                                                   : HAK_RELEASE_DECOMMIT;
    }
    Check(calls_.superslab(&facts) == wanted, "hak_release_superslab");
  }

  void Eagerly(const uint8_t *r) const {
    const hak_eager_facts facts = {
        .mode = static_cast<hak_decommit_mode>(r[1] % 3),
        .committed = Scale(r[2]),
        .target = Scale(r[3]),
        .soft_limit = Scale(r[6]),
        .free_bytes = Scale(r[4]),
        .keep_free_bytes = Scale(r[5]),
    };
    hak_decommit_mode wanted = facts.mode;
    if (facts.committed <= facts.target) wanted = HAK_DECOMMIT_OFF;
    const bool beyond = facts.soft_limit > 0 && facts.committed > facts.soft_limit;
    if (beyond && facts.free_bytes > facts.soft_limit / 32) wanted = HAK_DECOMMIT_DONTNEED;
    if (facts.free_bytes <= facts.keep_free_bytes) wanted = HAK_DECOMMIT_OFF;
    Check(calls_.eagerly(&facts) == wanted, "hak_eager_mode");
  }

  // Shares of a heap, with a minimum for each.
  void Share(const uint8_t *r) const {
    const uint64_t free = Scale(r[1]);
    const uint64_t heap = Scale(r[2]);
    const bool eighth = free >= 2 * kMiB && free >= heap / 8;
    Check(calls_.before_growth(free, heap) == eighth, "hak_should_empty_before_growth");
    Check(calls_.pages(free, heap) == eighth, "hak_should_purge_pages");
    Check(calls_.watch(free, heap) == (free >= 4 * kMiB && free >= heap / 8), "hak_should_watch");
    Check(hak_should_keep_slab(r[3]) == (r[3] == 0), "hak_should_keep_slab");
  }

  void Slice(const uint8_t *r) const {
    const uint64_t elapsed = Scale(r[1]);
    const Wide tenth = Wide{elapsed} * 1000 / 10;
    Check(calls_.slice_us(elapsed) == (tenth > 20000 ? 20000 : static_cast<uint64_t>(tenth)), "hak_release_slice_us");
  }

  static hak_limit_verdict NaiveJudge(uint64_t committed, uint64_t more, uint64_t purge_at, uint64_t hard) {
    const Wide wanted = Wide{committed} + more;
    if (wanted > UINT64_MAX) return HAK_LIMIT_REFUSE;
    if (wanted > purge_at) return HAK_LIMIT_PURGE;
    return hard != 0 && wanted > hard ? HAK_LIMIT_REFUSE : HAK_LIMIT_GROW;
  }

  void Judge(const uint8_t *r) const {
    const hak_limit_facts facts = {Scale(r[1]), Scale(r[2]), Scale(r[3]), Scale(r[4])};
    Check(calls_.judge(&facts) == NaiveJudge(facts.committed, facts.more, facts.purge_at, facts.hard),
          "hak_limit_judge");
  }

  void SoftLimit(const uint8_t *r) const {
    const uint64_t hard = Scale(r[1]);
    const uint64_t group = Scale(r[2]);
    const uint64_t setting = Scale(r[3]);
    const uint64_t lower = LeastOf(hard == 0 ? UINT64_MAX : hard, group == 0 ? UINT64_MAX : group);
    const uint64_t near = lower == UINT64_MAX ? UINT64_MAX : lower - lower / 8;
    Check(calls_.soft(hard, group, setting) == LeastOf(near, setting == 0 ? UINT64_MAX : setting), "hak_limit_soft");
  }

  static uint64_t NaiveNextPurge(uint64_t soft, uint64_t committed, uint64_t more) {
    const Wide wanted = Wide{committed} + more;
    const Wide next = wanted + (wanted > soft ? wanted : Wide{soft}) / 32;
    if (soft == UINT64_MAX || next > UINT64_MAX) return UINT64_MAX;
    return next < soft ? soft : static_cast<uint64_t>(next);
  }

  void NextPurge(const uint8_t *r) const {
    const uint64_t soft = Scale(r[1]);
    const uint64_t committed = Scale(r[2]);
    const uint64_t more = Scale(r[3]);
    Check(calls_.next_purge(soft, committed, more) == NaiveNextPurge(soft, committed, more), "hak_limit_next_purge");
  }

  // The account: grows if admitted, shrinks, and is told of purges.
  void Account(const uint8_t *r) {
    const uint64_t bytes = Four(r + 4) % (96 * kMiB);
    if (r[0] % 12 == 8) {
      const uint64_t less = LeastOf(bytes, committed_);
      hak_commit_sub(less);
      committed_ -= less;
    } else if (r[0] % 12 == 9) {
      calls_.purged(bytes);
      purge_at_ = NaiveNextPurge(kSoft, committed_, bytes);
    } else {
      const uint64_t more = r[1] >= 240 ? Scale(r[2]) : bytes;
      const struct hak_limit_totals before = hak_limit_totals();
      const hak_limit_verdict wanted = NaiveJudge(committed_, more, purge_at_, kHard);
      const bool admitted = calls_.admit(more);
      Check(admitted == (wanted == HAK_LIMIT_GROW), "hak_limit_admit");
      const struct hak_limit_totals after = hak_limit_totals();
      Check(after.purges - before.purges == (wanted == HAK_LIMIT_PURGE ? 1 : 0), "purges are miscounted");
      Check(after.refusals - before.refusals == (wanted == HAK_LIMIT_REFUSE ? 1 : 0), "refusals are miscounted");
      Check(after.soft == kSoft, "another soft limit");
      if (admitted) {
        // Far enough below the soft limit, purges begin at it again.
        if (Wide{committed_} + more < kSoft - kSoft / 32) purge_at_ = kSoft;
        hak_commit_add(more);
        committed_ += more;
      }
    }
    Check(hak_commit_now() == committed_, "another amount is committed");
    Check(committed_ <= kHard, "more is committed than the limit allows");
  }

  const ReleasePolicyCalls &calls_;
  uint64_t committed_ = 0;
  uint64_t purge_at_ = kSoft;
};

}  // namespace

void RunReleasePolicyInput(const ReleasePolicyCalls &calls, const uint8_t *data, size_t size) {
  Input input(calls);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
}

}  // namespace hak_fuzz
