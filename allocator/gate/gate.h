// SPDX-License-Identifier: Apache-2.0
//
// Gates: the settings that an operator may change by environment variables, a program by hak_conf, and a build by
// //configs:conf. One table (policy/gate_table.inc) has each with its name, values, defaults and meaning. The parser,
// HAKMEM_SHOW_CONFIG and docs/ENV.md are made from it.
//
// All sources are read once, before the first block is handed out. For each gate the environment overrides hak_conf,
// which overrides //configs:conf, which overrides the preset. A process with raised privileges (AT_SECURE) does not
// read the environment. FAST builds do not read hak_conf, and take from the environment only HAKMEM_SHOW_CONFIG and
// HAKMEM_CONF_STRICT. Later the program itself may change most gates (gate_now.h), which overrides all of these.
//
// A mistake is a value that is not accepted, an item of hak_conf or //configs:conf that is no setting, or a variable
// of the environment that begins with HAKMEM_ and is no setting. Each is one line on stderr, and the value that would
// apply otherwise is used; with HAKMEM_CONF_STRICT=1 the first one ends the process. HAKMEM_BENCH_ and HAKMEM_TEST_
// begin the variables of the project's own tools, which are no mistakes.
#ifndef HAKMEM_GATE_GATE_H_
#define HAKMEM_GATE_GATE_H_

#include "allocator/gate/gate_row.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/os/report.h"

HAK_C_BEGIN

// The right to set the values of the settings. One thread at a time has it: api/process.c makes sure of that.
extern struct hak_role hak_gate_role;

// In the order of precedence. From HAK_GATE_FROM_BUILD on, the setting was given explicitly.
enum hak_gate_origin {
  HAK_GATE_BUILT_IN,
  HAK_GATE_FROM_PRESET,
  HAK_GATE_FROM_BUILD,
  HAK_GATE_FROM_PROGRAM,
  HAK_GATE_FROM_ENVIRONMENT,
  HAK_GATE_FROM_CALL  // hak_config_set
};

struct hak_gate_values {
  uint64_t value[HAK_GATE_COUNT];
  uint8_t origin[HAK_GATE_COUNT];  // enum hak_gate_origin
};

// The sources of settings; each may be NULL.
struct hak_gate_sources {
  char *const *environment;  // NULL-ended "NAME=value" strings; of two with the same name the first counts
  const char *program;       // hak_conf: items as in conf.h; of two with the same name the last counts
  const char *build;         // //configs:conf: the same
  bool fixed;                // of the environment only HAKMEM_SHOW_CONFIG and HAKMEM_CONF_STRICT count
};

// Resolves all settings from these sources, and reports the mistakes in them.
void hak_gate_resolve(const struct hak_gate_sources *sources, struct hak_gate_values *values);

// Checks the settings of a build before it is made: writes a line for each mistake, and returns whether there is none.
bool hak_gate_check_build(const char *text);

// Gives the setting the value and origin that the preset implies.
void hak_gate_preset(uint32_t id, uint64_t preset, struct hak_gate_values *values);

// The end of a line about a mistake: the value that the setting has instead, which HAKMEM_CONF_STRICT leaves out; and
// the write. With HAKMEM_CONF_STRICT that does not return.
void hak_gate_add_used(struct hak_line *line, uint32_t id, const struct hak_gate_values *values);
void hak_gate_write_mistake(struct hak_line *line, const struct hak_gate_values *values);

// Writes to stderr what build this is, and every setting with its value and the value's source.
void hak_gate_show(const struct hak_gate_values *values);

// Writes to stderr that the process calls this allocator; or, at its end, that it has not.
void hak_gate_show_use(bool in_use);

// The version, profile and header mode of this build. A static string.
const char *hak_gate_build_name(void);

// Whether the program's calls of dlopen come to hakmem (api/dlopen_override.c): HAKMEM_DROP_DEEPBIND has an effect. The
// definition in the room gate is weak, and says no. It is no constant, because the compiler would use that value.
extern bool hak_gate_wraps_dlopen;

// The name of an origin: "default", "preset", "//configs:conf", "hak_conf", "environment", "hak_config_set".
const char *hak_gate_source_name(enum hak_gate_origin origin);
// The name that users see: in FAST "fixed in this build", unless the value is from the environment.
const char *hak_gate_origin_name(enum hak_gate_origin origin);

HAK_C_END

#endif  // HAKMEM_GATE_GATE_H_
