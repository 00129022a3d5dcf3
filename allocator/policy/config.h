// SPDX-License-Identifier: Apache-2.0
//
// The resolved settings as plain data, which the policies and the rooms above read. The fields are made from the table
// of settings (gate_table.inc), which also says what each means. The room gate fills them in before the first block is
// handed out. Later it changes most fields at the program's request (gate/gate_now.h). So they are read by HAK_SETTING,
// and each decision reads a setting only once.
#ifndef HAKMEM_POLICY_CONFIG_H_
#define HAKMEM_POLICY_CONFIG_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"

HAK_C_BEGIN

// Sets of defaults.
enum hak_preset { HAK_PRESET_BALANCED, HAK_PRESET_SPEED, HAK_PRESET_LEAN, HAK_PRESET_COUNT };

// The form of the slab map (slab/slab_map.h).
enum hak_slab_map_form { HAK_SLAB_MAP_AUTO, HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL };

// Transparent huge pages for superslabs (os/decommit.h).
enum hak_huge_pages { HAK_HUGE_PAGES_AUTO, HAK_HUGE_PAGES_ON, HAK_HUGE_PAGES_OFF };

// On which signal a profile is written (api/dump_triggers.c).
enum hak_dump_signal {
  HAK_DUMP_SIGNAL_OFF,
  HAK_DUMP_SIGNAL_HUP,
  HAK_DUMP_SIGNAL_QUIT,
  HAK_DUMP_SIGNAL_USR1,
  HAK_DUMP_SIGNAL_USR2,
  HAK_DUMP_SIGNAL_PROF,
  HAK_DUMP_SIGNAL_URG,
};

// What is written when misuse is noticed (api/full_report.h).
enum hak_report { HAK_REPORT_LINE, HAK_REPORT_FULL };

// What follows when a block is released by a call of another kind (api/mismatch.h).
enum hak_mismatch_action { HAK_MISMATCH_AUTO, HAK_MISMATCH_OFF, HAK_MISMATCH_WARN, HAK_MISMATCH_FATAL };

struct hak_config {
#define HAK_GATE_NUMBER(id, field, ...) uint64_t field;
#include "allocator/policy/gate_table.inc"
#define HAK_GATE_CHOICE(id, field, type, ...) type field;
#include "allocator/policy/gate_table.inc"
  // How many superslabs LEAN did not prewarm. lean_decommit and prewarm_superslabs are the values after LEAN changed
  // them (gate/ss_mem_lean.h).
  uint64_t prewarm_suppressed;
};

// All zero until the settings are resolved, which is before the first block is handed out.
extern struct hak_config hak_config;

// Relaxed: a change takes effect with the next decision, and no two settings depend on each other.
#define HAK_SETTING(field) __atomic_load_n(&hak_config.field, __ATOMIC_RELAXED)

HAK_C_END

#endif  // HAKMEM_POLICY_CONFIG_H_
