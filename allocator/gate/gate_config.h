// SPDX-License-Identifier: Apache-2.0
//
// From the values of the gates to hak_config, the plain data that the policies read.
#ifndef HAKMEM_GATE_GATE_CONFIG_H_
#define HAKMEM_GATE_GATE_CONFIG_H_

#include "allocator/gate/gate.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// The values as the policies read them.
void hak_gate_fill_config(const struct hak_gate_values *values, struct hak_config *config);

// The most MiB that are no memory limit, since the process has them in use already.
uint64_t hak_gate_limit_floor(void);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_CONFIG_H_
