// SPDX-License-Identifier: Apache-2.0
//
// What LEAN changes of the other settings.
#include "allocator/gate/ss_mem_lean.h"

static bool user_set(const struct hak_gate_values *values, enum hak_gate_id id) {
  return values->origin[id] >= HAK_GATE_FROM_BUILD;
}

void hak_ss_mem_lean_resolve(const struct hak_gate_values *values, struct hak_config *config) {
  const bool lean = values->value[HAK_GATE_SS_MEM_LEAN] != 0;
  const enum hak_decommit_mode mode = (enum hak_decommit_mode)values->value[HAK_GATE_SS_MEM_LEAN_DECOMMIT];
  config->lean_decommit = lean ? mode : HAK_DECOMMIT_OFF;

  const uint64_t wanted = values->value[HAK_GATE_SS_PREWARM];
  const bool prewarm = !lean || (user_set(values, HAK_GATE_SS_PREWARM) && !user_set(values, HAK_GATE_SS_MEM_LEAN));
  config->prewarm_superslabs = prewarm ? wanted : 0;
  config->prewarm_suppressed = prewarm ? 0 : wanted;
}
