// SPDX-License-Identifier: Apache-2.0
//
// Copies the values of the settings into hak_config.
#include "allocator/gate/gate_config.h"

#include "allocator/gate/ss_mem_lean.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"

uint64_t hak_gate_limit_floor(void) { return hak_os_resident_bytes() >> 20; }

void hak_gate_fill_config(const struct hak_gate_values *values, struct hak_config *config) {
#define HAK_GATE_NUMBER(id, field, ...) \
  config->field = values->value[HAK_GATE_##id] * hak_gate_scale(&hak_gates[HAK_GATE_##id]);
#define HAK_GATE_CHOICE(id, field, type, ...) config->field = (type)values->value[HAK_GATE_##id];
#include "allocator/policy/gate_table.inc"
  hak_ss_mem_lean_resolve(values, config);
}
