// SPDX-License-Identifier: Apache-2.0
//
// Handles refusals of the kernel to take memory back, for example because it is locked. After a few refusals in a row
// the kernel is not asked for a while, then once, then after longer and longer pauses. One success ends this.
//
// Thread-safe, no lock.
#ifndef HAKMEM_POLICY_REFUSAL_H_
#define HAKMEM_POLICY_REFUSAL_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// How many refusals in a row cause no pause; the first pause and the longest.
#define HAK_REFUSALS_FREE 8u
#define HAK_REFUSAL_MS_MIN 100u
#define HAK_REFUSAL_MS_MAX 10000u

// Relaxed: independent hints.
struct hak_refusal {
  HAK_ATOMIC(uint32_t) in_row;
  HAK_ATOMIC(uint32_t) pause_ms;
  HAK_ATOMIC(uint64_t) until_ms;
};
// For returning pages.
extern struct hak_refusal hak_decommit_refusal;

// Whether the kernel may be asked at `now` (milliseconds).
bool hak_refusal_is_over(const struct hak_refusal *refusal, uint64_t now);
// Records the kernel's answer at `now`.
void hak_refusal_note(struct hak_refusal *refusal, bool refused, uint64_t now);

HAK_C_END

#endif  // HAKMEM_POLICY_REFUSAL_H_
