// SPDX-License-Identifier: Apache-2.0
//
// gate_now: the gates as they hold now, which is as hak_gate_init resolved them and as the program changed them since.
#ifndef HAKMEM_GATE_GATE_NOW_H_
#define HAKMEM_GATE_GATE_NOW_H_

#include "allocator/gate/gate.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// What holds from now on. By hak_gate_init, before any other thread asks.
void hak_gate_now_init(const struct hak_gate_values *values);

// The value of the gate with this environment variable as text, and where it came from (hak_gate_origin_name; `origin`
// may be NULL). Static strings. NULL: no such gate, or the gates are not resolved yet. Thread-safe; while another
// thread changes the gate, value and origin may be of two moments.
const char *hak_gate_get(const char *name, const char **origin);

// Gives the gate another value, in hak_config too. The preset's gate gives its values to all gates that may change and
// for which nobody asked. Returns 0, or, with nothing changed, EINVAL (no such gate, or a value that it does not
// accept; a memory limit that the process is beyond already), EPERM (the gate is read at the start alone, or the
// values are fixed in this build) or ENOMEM (for the value's text: each different number takes 32 bytes for good). One
// thread at a time; others read meanwhile.
int hak_gate_set(const char *name, const char *text);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_NOW_H_
