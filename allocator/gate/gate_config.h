// SPDX-License-Identifier: Apache-2.0
//
// Fills hak_config, the plain data that the policies read, from the values of the settings.
#ifndef HAKMEM_GATE_GATE_CONFIG_H_
#define HAKMEM_GATE_GATE_CONFIG_H_

#include "allocator/gate/gate.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// Sets all fields of *config.
void hak_gate_fill_config(const struct hak_gate_values *values, struct hak_config *config);

// A memory limit must be larger than this many MiB, which the process already uses.
uint64_t hak_gate_limit_floor(void);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_CONFIG_H_
