// SPDX-License-Identifier: Apache-2.0
//
// What was returned too early.
#include "allocator/policy/regret.h"

void hak_regret_gave(struct hak_regret *regret, uint64_t bytes, uint64_t now_ms) {
  regret->gone_bytes += bytes;
  regret->gone_ms = now_ms;
}

void hak_regret_took(struct hak_regret *regret, uint64_t bytes, uint64_t now_ms, uint64_t span_ms) {
  if (now_ms - regret->gone_ms > span_ms) {
    regret->gone_bytes = 0;
    return;
  }
  const uint64_t again = bytes < regret->gone_bytes ? bytes : regret->gone_bytes;
  regret->gone_bytes -= again;
  regret->more_bytes += again;
  regret->more_ms = now_ms;
}

uint64_t hak_regret_more(struct hak_regret *regret, uint64_t now_ms, uint64_t span_ms) {
  if (regret->more_bytes != 0 && now_ms - regret->more_ms > 2 * span_ms) regret->more_bytes = 0;
  return regret->more_bytes;
}

void hak_regret_used(struct hak_regret *regret, uint64_t now_ms) { regret->more_ms = now_ms; }
