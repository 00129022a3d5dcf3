// SPDX-License-Identifier: Apache-2.0
//
// Reads the settings at the start of the process, from the environment, the program and the build, into hak_config.
#ifndef HAKMEM_GATE_GATE_START_H_
#define HAKMEM_GATE_GATE_START_H_

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_row.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// Resolves the process's settings into hak_config. Called once, by process initialisation.
void hak_gate_init(void) HAK_REQUIRES(hak_gate_role);
// The text that the environment gave the setting at the start, or "". Valid forever, whatever the program does to its
// environment. In FAST always "".
#define HAK_GATE_TEXT_BYTES 1024u
const char *hak_gate_text(enum hak_gate_text_id id);

// Gives the environment to read if the C library has none yet. Call it before hak_gate_init; later it has no effect.
void hak_gate_set_environment(char *const *environment);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_START_H_
