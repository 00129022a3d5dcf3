// SPDX-License-Identifier: Apache-2.0
//
// Gates: the settings that an operator may change by environment variables, a program by hak_conf, and a build by
// //configs:conf. One table (policy/gate_table.inc) has each with its name, values, defaults and meaning. The parser,
// HAKMEM_SHOW_CONFIG and docs/ENV.md are made from it.
//
// All sources are read once, before the first block is handed out. For each gate the environment overrides hak_conf,
// which overrides //configs:conf, which overrides the preset. A process with raised privileges (AT_SECURE) does not
// read the environment; FAST builds read neither it nor hak_conf. A value that is not accepted is reported on stderr,
// and the value that would apply otherwise is used. Later the program itself may change most gates (gate_now.h), which
// overrides all of these.
#ifndef HAKMEM_GATE_GATE_H_
#define HAKMEM_GATE_GATE_H_

#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// The right to set the values of the settings. One thread at a time has it: api/process.c makes sure of that.
extern struct hak_role hak_gate_role;

enum hak_gate_id {
#define HAK_GATE_CHOICE(id, ...) HAK_GATE_##id,
#define HAK_GATE_NUMBER(id, ...) HAK_GATE_##id,
#include "allocator/policy/gate_table.inc"
  HAK_GATE_COUNT
};

// In the order of precedence. From HAK_GATE_FROM_BUILD on, the setting was given explicitly.
enum hak_gate_origin {
  HAK_GATE_BUILT_IN,
  HAK_GATE_FROM_PRESET,
  HAK_GATE_FROM_BUILD,
  HAK_GATE_FROM_PROGRAM,
  HAK_GATE_FROM_ENVIRONMENT,
  HAK_GATE_FROM_CALL  // hak_config_set
};

// When a setting may change.
enum hak_gate_change { HAK_GATE_AT_START, HAK_GATE_ANY_TIME };

struct hak_gate {
  const char *name;                   // of the environment variable
  const char *const *choices;         // NULL-ended names of the values 0, 1, ...; NULL for a number
  uint64_t least, most;               // of a number
  const char *unit;                   // of a number
  uint64_t preset[HAK_PRESET_COUNT];  // the value under each preset
  const char *rooms;                  // the rooms that it takes effect in
  enum hak_gate_change change;
  const char *text;
};
extern const struct hak_gate hak_gates[HAK_GATE_COUNT];

struct hak_gate_values {
  uint64_t value[HAK_GATE_COUNT];
  uint8_t origin[HAK_GATE_COUNT];  // enum hak_gate_origin
};

// The sources of settings; each may be NULL.
struct hak_gate_sources {
  char *const *environment;  // NULL-ended "NAME=value" strings; of two with the same name the first counts
  const char *program;       // hak_conf: items as in conf.h; of two with the same name the last counts
  const char *build;         // //configs:conf: the same
};

// The other name of the setting's variable, or NULL if it has none; and the setting that has this name as either of its
// names, or HAK_GATE_COUNT.
const char *hak_gate_other_name(uint32_t id);
uint32_t hak_gate_named(const char *name);

// The value of the variable in the environment. NULL: the variable is not set, or `environment` is NULL.
const char *hak_gate_variable(char *const *environment, const char *name);

// Reads `text` as a value of the setting. False: it is not an accepted value.
bool hak_gate_parse(const struct hak_gate *gate, const char *text, uint64_t *value);

// Resolves all settings from these sources. Reports each value that is not accepted by a line on stderr.
void hak_gate_resolve(const struct hak_gate_sources *sources, struct hak_gate_values *values);

// Gives the setting the value and origin that the preset implies.
void hak_gate_preset(uint32_t id, uint64_t preset, struct hak_gate_values *values);

// Writes every setting to stderr, with its value and the value's source.
void hak_gate_show(const struct hak_gate_values *values);

// The name of an origin: "default", "preset", "//configs:conf", "hak_conf", "environment", "hak_config_set".
const char *hak_gate_source_name(enum hak_gate_origin origin);
// The name that users see: in FAST "fixed in this build".
const char *hak_gate_origin_name(enum hak_gate_origin origin);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_H_
