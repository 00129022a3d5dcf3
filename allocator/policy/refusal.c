// SPDX-License-Identifier: Apache-2.0
//
// The pauses after refusals of the kernel.
#include "allocator/policy/refusal.h"

struct hak_refusal hak_decommit_refusal;

// Relaxed throughout: see the declaration.
#define LOAD(field) atomic_load_explicit(&refusal->field, memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&refusal->field, (value), memory_order_relaxed)

bool hak_refusal_is_over(const struct hak_refusal *refusal, uint64_t now) {
  return LOAD(pause_ms) == 0 || now >= LOAD(until_ms);
}

void hak_refusal_note(struct hak_refusal *refusal, bool refused, uint64_t now) {
  if (!refused) {
    if (LOAD(in_row) != 0) STORE(in_row, 0);
    if (LOAD(pause_ms) != 0) STORE(pause_ms, 0);
    return;
  }
  const uint32_t in_row = LOAD(in_row) + 1;
  if (in_row < HAK_REFUSALS_FREE) {
    STORE(in_row, in_row);
    return;
  }
  const uint32_t longer = 2 * LOAD(pause_ms);
  const uint32_t pause = longer < HAK_REFUSAL_MS_MIN ? HAK_REFUSAL_MS_MIN : longer;
  STORE(pause_ms, pause < HAK_REFUSAL_MS_MAX ? pause : HAK_REFUSAL_MS_MAX);
  STORE(until_ms, now + LOAD(pause_ms));
}
