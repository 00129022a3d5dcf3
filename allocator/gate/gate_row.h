// SPDX-License-Identifier: Apache-2.0
//
// The rows of the table of settings (policy/gate_table.inc): the names of each setting, and which texts are its values.
//
//   a number   decimal digits, in the setting's unit. If that is KiB or MiB, a suffix may follow, in upper or lower
//              case: K, M, G or T, for 2^10, 2^20, 2^30 or 2^40 bytes. The size must then be a whole multiple of the
//              unit.
//   a switch   0, off, false or no; 1, on, true or yes, in upper or lower case
//   a choice   exactly one of its names
#ifndef HAKMEM_GATE_GATE_ROW_H_
#define HAKMEM_GATE_GATE_ROW_H_

#include "allocator/os/base.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

enum hak_gate_id {
#define HAK_GATE_CHOICE(id, ...) HAK_GATE_##id,
#define HAK_GATE_NUMBER(id, ...) HAK_GATE_##id,
#include "allocator/policy/gate_table.inc"
  HAK_GATE_COUNT
};

// When a setting may change.
enum hak_gate_change { HAK_GATE_AT_START, HAK_GATE_ANY_TIME };

struct hak_gate {
  const char *name;                   // of the environment variable
  const char *const *choices;         // NULL-ended names of the values 0, 1, ...; NULL for a number
  bool is_switch;                     // a choice of 0 and 1
  uint64_t least, most;               // of a number
  const char *unit;                   // of a number
  uint64_t preset[HAK_PRESET_COUNT];  // the value under each preset
  const char *rooms;                  // the rooms that it takes effect in
  enum hak_gate_change change;
  bool works;  // it has an effect in this build
  const char *text;
};
extern const struct hak_gate hak_gates[HAK_GATE_COUNT];

// Settings whose values are texts, which only the environment gives.
enum hak_gate_text_id {
#define HAK_GATE_TEXT(id, ...) HAK_GATE_TEXT_##id,
#include "allocator/policy/gate_table.inc"
  HAK_GATE_TEXT_COUNT
};
struct hak_gate_text {
  const char *name;   // of the environment variable
  const char *value;  // what it is
  const char *rooms;
  bool works;
  const char *text;
};
extern const struct hak_gate_text hak_gate_texts[HAK_GATE_TEXT_COUNT];

// With what the names of all variables begin.
#define HAK_GATE_PREFIX "HAKMEM_"

// The other name of the setting's variable, or NULL if it has none; and the setting that has this name as either of its
// names, or HAK_GATE_COUNT.
const char *hak_gate_other_name(uint32_t id);
uint32_t hak_gate_named(const char *name);

// The name of a setting's variable that the text, of `length` bytes, is most like, with or without HAKMEM_, in upper or
// lower case. NULL: it is like none.
const char *hak_gate_nearest_name(const char *text, size_t length);

// How many bytes one unit of a number of KiB or MiB is; 1 for other numbers.
uint64_t hak_gate_scale(const struct hak_gate *gate);

// Reads `text` as a value of the setting. False: it is not an accepted value, and *value is unchanged.
bool hak_gate_parse(const struct hak_gate *gate, const char *text, uint64_t *value);

// Appends a value of the setting, or what all its values are.
void hak_gate_add_value(struct hak_line *line, const struct hak_gate *gate, uint64_t value);
void hak_gate_add_accepted(struct hak_line *line, const struct hak_gate *gate);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_ROW_H_
