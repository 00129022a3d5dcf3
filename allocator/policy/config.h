// SPDX-License-Identifier: Apache-2.0
//
// The resolved settings as plain data: what the policies and the floors above read. The table of settings
// (gate_table.inc) makes the fields and says what each means. The gate floor fills them in before the first block is
// handed out. Later it changes most fields when the program asks for it (gate/gate_now.h), so that they are read by
// HAK_SETTING, and each decision reads a setting once.
#ifndef HAKMEM_POLICY_CONFIG_H_
#define HAKMEM_POLICY_CONFIG_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"

HAK_C_BEGIN

// Sets of defaults.
enum hak_preset { HAK_PRESET_BALANCED, HAK_PRESET_SPEED, HAK_PRESET_LEAN, HAK_PRESET_COUNT };

// How the slab map is laid out (slab/slab_map.h).
enum hak_slab_map_form { HAK_SLAB_MAP_AUTO, HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL };

// Transparent huge pages for superslabs (os/decommit.h).
enum hak_huge_pages { HAK_HUGE_PAGES_AUTO, HAK_HUGE_PAGES_ON, HAK_HUGE_PAGES_OFF };

struct hak_config {
#define HAK_GATE_NUMBER(id, field, ...) uint64_t field;
#include "allocator/policy/gate_table.inc"
#define HAK_GATE_CHOICE(id, field, type, ...) type field;
#include "allocator/policy/gate_table.inc"
  // lean_decommit and prewarm_superslabs are what LEAN leaves of their settings (gate/ss_mem_lean.h). This is how many
  // superslabs it left out.
  uint64_t prewarm_suppressed;
};

// All zero until the gates are resolved, which is before the first block is handed out.
extern struct hak_config hak_config;

// Relaxed: a setting that changes meanwhile is heeded by the next decision; no two settings belong together.
#define HAK_SETTING(field) __atomic_load_n(&hak_config.field, __ATOMIC_RELAXED)

HAK_C_END

#endif  // HAKMEM_POLICY_CONFIG_H_
