// SPDX-License-Identifier: Apache-2.0
//
// The low-water mark of an amount of free memory: how much of it nobody has needed for a whole span of time. What lies
// below the mark can go back; what a program takes and frees again and again lies above it and stays, however large it
// is. A pure function of amounts and times, so that the cadence of calls does not matter.
#ifndef HAKMEM_POLICY_LOW_WATER_H_
#define HAKMEM_POLICY_LOW_WATER_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_LOW_WATER_PARTS 16u

// All zero: nothing is known yet, and nothing lies below the mark.
struct hak_low_water {
  uint64_t least[HAK_LOW_WATER_PARTS];  // the least amount in each of the last parts of the span
  uint32_t part;                        // where the next one goes
  uint64_t now_bytes;                   // the amount
  uint64_t least_now;                   // in the part that has begun
  uint64_t since_ms;                    // when it began
};

// The amount is `now_bytes` from now on, at `now_ms`. `span_ms`: how long memory must lie unused.
void hak_low_water_note(struct hak_low_water *water, uint64_t now_bytes, uint64_t now_ms, uint64_t span_ms);
// The amount is less from now on, or was for a moment. Where the time matters, hak_low_water_note follows.
void hak_low_water_dip(struct hak_low_water *water, uint64_t now_bytes);
// How much has not been needed for the whole span.
uint64_t hak_low_water_due(const struct hak_low_water *water);
// `bytes` of it are there no more.
void hak_low_water_took(struct hak_low_water *water, uint64_t bytes);

HAK_C_END

#endif  // HAKMEM_POLICY_LOW_WATER_H_
