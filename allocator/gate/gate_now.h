// SPDX-License-Identifier: Apache-2.0
//
// gate_now: the current values of the settings, as hak_gate_init resolved them and as the program has changed them
// since.
#ifndef HAKMEM_GATE_GATE_NOW_H_
#define HAKMEM_GATE_GATE_NOW_H_

#include "allocator/gate/gate.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"

HAK_C_BEGIN

// Sets the values. Called by hak_gate_init, before another thread reads them.
void hak_gate_now_init(const struct hak_gate_values *values) HAK_REQUIRES(hak_gate_role);

// The value of the setting with this environment variable, as text, and its source (hak_gate_origin_name; `origin` may
// be NULL). Static strings. NULL: there is no such setting, or the settings are not resolved yet. Thread-safe; if
// another thread changes the setting during the call, value and source may be from different moments.
const char *hak_gate_get(const char *name, const char **origin);

// Changes the setting's value, in hak_config too. A new preset changes all settings that may change and were not given
// explicitly. Returns 0, or, with nothing changed, EINVAL (no such setting; a value that is not accepted; a memory
// limit below what the process already uses), EPERM (the setting is read only at the start, or the values are fixed in
// this build) or ENOMEM (for the value's text: each different number takes 32 bytes for good). One thread at a time;
// others may read.
int hak_gate_set(const char *name, const char *text) HAK_REQUIRES(hak_gate_role);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_NOW_H_
