// SPDX-License-Identifier: Apache-2.0
//
// ss_mem_lean: resolves the settings that put memory before speed into the fields that the policies read. LEAN controls
// only two things: whether superslabs are prewarmed, and whether slabs are decommitted as soon as they are free. The
// release policy controls the purge at the deadline.
#ifndef HAKMEM_GATE_SS_MEM_LEAN_H_
#define HAKMEM_GATE_SS_MEM_LEAN_H_

#include "allocator/gate/gate.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// Sets config->lean_decommit, prewarm_superslabs and prewarm_suppressed.
//
// LEAN suppresses the prewarm. An explicit value overrides a preset: a prewarm that the environment, hak_conf or
// //configs:conf requests is done if LEAN comes only from the preset.
void hak_ss_mem_lean_resolve(const struct hak_gate_values *values, struct hak_config *config);

HAK_C_END

#endif  // HAKMEM_GATE_SS_MEM_LEAN_H_
