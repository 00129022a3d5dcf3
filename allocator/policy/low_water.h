// SPDX-License-Identifier: Apache-2.0
//
// The low-water mark of an amount of free memory: how much of it was not needed for a whole span of time. Memory below
// the mark can be returned. Memory that a program takes and frees repeatedly is above the mark and stays, however much
// it is. The mark depends only on the amounts and their times, not on how often it is asked for.
#ifndef HAKMEM_POLICY_LOW_WATER_H_
#define HAKMEM_POLICY_LOW_WATER_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_LOW_WATER_PARTS 16u

// All zero: nothing is known yet, and the mark is 0.
struct hak_low_water {
  uint64_t least[HAK_LOW_WATER_PARTS];  // the least amount in each of the last parts of the span
  uint32_t part;                        // the index at which the next one is stored
  uint64_t now_bytes;                   // the amount
  uint64_t least_now;                   // in the part that is under way
  uint64_t since_ms;                    // when that part began
};

// The amount becomes `now_bytes` at the time `now_ms`. `span_ms`: how long memory must be unused.
void hak_low_water_note(struct hak_low_water *water, uint64_t now_bytes, uint64_t now_ms, uint64_t span_ms);
// The amount dropped to `now_bytes`, perhaps only for a moment. If the time matters, call hak_low_water_note too.
void hak_low_water_dip(struct hak_low_water *water, uint64_t now_bytes);
// How much was not needed for the whole span.
uint64_t hak_low_water_due(const struct hak_low_water *water);
// `bytes` below the mark were returned.
void hak_low_water_took(struct hak_low_water *water, uint64_t bytes);

HAK_C_END

#endif  // HAKMEM_POLICY_LOW_WATER_H_
