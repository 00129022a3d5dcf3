// SPDX-License-Identifier: Apache-2.0
//
// How much more free memory a program should keep than its bound says. Memory beyond the bound is returned at once. If
// the program needs as much memory again soon afterwards, returning it was wrong: each such cycle costs the system
// calls and the first touch of every page. From then on that much more may be kept, as long as the cycle goes on.
#ifndef HAKMEM_POLICY_REGRET_H_
#define HAKMEM_POLICY_REGRET_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// All zero: nothing was returned yet.
struct hak_regret {
  uint64_t gone_bytes;  // were returned at once, and no request has needed them since
  uint64_t gone_ms;     // when the latest of them were returned
  uint64_t more_bytes;  // what may be kept in addition
  uint64_t more_ms;     // when that was last of use
};

// `bytes` were returned at once at the time `now_ms`.
void hak_regret_gave(struct hak_regret *regret, uint64_t bytes, uint64_t now_ms);
// Whether hak_regret_took would do something.
HAK_INLINE bool hak_regret_is_open(const struct hak_regret *regret) { return regret->gone_bytes != 0; }
// A request needed `bytes` from the system. `span_ms`: how soon is soon.
void hak_regret_took(struct hak_regret *regret, uint64_t bytes, uint64_t now_ms, uint64_t span_ms);
// What may be kept in addition. It ends when it was of no use for two spans.
uint64_t hak_regret_more(struct hak_regret *regret, uint64_t now_ms, uint64_t span_ms);
// Memory is kept that the bound alone would not allow.
void hak_regret_used(struct hak_regret *regret, uint64_t now_ms);

HAK_C_END

#endif  // HAKMEM_POLICY_REGRET_H_
