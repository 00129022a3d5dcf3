// SPDX-License-Identifier: Apache-2.0
//
// Resolves the settings from all sources, and reports the mistakes in them.
#include "allocator/gate/gate.h"

#include <hakmem/hakmem.h>
#include <unistd.h>

#include "allocator/gate/conf.h"
#include "allocator/os/bytes.h"

#define STRINGIFY(x) #x
#define STRING(x) STRINGIFY(x)
#define VERSION STRING(HAK_VERSION_MAJOR) "." STRING(HAK_VERSION_MINOR) "." STRING(HAK_VERSION_PATCH)

// The most lines about unknown variables of the environment.
#define UNKNOWN_MAX 8

static const char program_source[] = "hak_conf";
static const char build_source[] = "//configs:conf";

// ---- Lines about mistakes -----------------------------------------------------------------------

// `values` is NULL while a build is checked: then nothing is used instead, and no process ends.
static bool is_strict(const struct hak_gate_values *values) {
  return values != NULL && values->value[HAK_GATE_CONF_STRICT] != 0;
}

void hak_gate_add_used(struct hak_line *line, uint32_t id, const struct hak_gate_values *values) {
  if (values == NULL || is_strict(values)) return;
  hak_line_text(line, "; using ");
  hak_gate_add_value(line, &hak_gates[id], values->value[id]);
}

void hak_gate_write_mistake(struct hak_line *line, const struct hak_gate_values *values) {
  if (!is_strict(values)) {
    hak_line_write(line);
    return;
  }
  hak_line_text(line, "; HAKMEM_CONF_STRICT ends the process");
  hak_line_exit(line);
}

// Appends the text in quotes, cut after 64 bytes.
static void add_quoted(struct hak_line *line, const char *text, size_t length) {
  hak_line_text(line, "\"");
  for (size_t i = 0; i < length && i < 64 && text[i] != '\0'; i++) {
    // Text from outside must not be able to fake a line or move the cursor.
    const char shown[2] = {text[i] >= ' ' && text[i] <= '~' ? text[i] : '?', '\0'};
    hak_line_text(line, shown);
  }
  hak_line_text(line, "\"");
}

static bool is_name(const char *name, const char *text, size_t length) {
  for (size_t i = 0; name != NULL && i < length; i++) {
    if (name[i] != text[i]) return false;
  }
  return name != NULL && name[length] == '\0';
}

// Adds a hint if the text is the name of a build profile.
static void add_profile_hint(struct hak_line *line, const char *text, size_t length) {
  static const char *const profiles[] = {"fast", "standard", "observe", "hardened"};
  for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++) {
    if (!is_name(profiles[i], text, length)) continue;
    hak_line_text(line, "; ");
    hak_line_text(line, profiles[i]);
    hak_line_text(line, " is a profile, which is chosen when hakmem is built");
  }
}

// Adds a hint if the text is the name of a preset.
static void add_preset_hint(struct hak_line *line, const char *text, size_t length) {
  const char *const *presets = hak_gates[HAK_GATE_PROFILE].choices;
  for (size_t i = 0; presets[i] != NULL; i++) {
    if (!is_name(presets[i], text, length)) continue;
    hak_line_text(line, "; ");
    hak_line_text(line, presets[i]);
    hak_line_text(line, " is a preset: profile=");
    hak_line_text(line, presets[i]);
  }
}

// Adds the name of the setting that is most like the text, if there is one.
static bool add_nearest(struct hak_line *line, const char *text, size_t length) {
  const char *nearest = hak_gate_nearest_name(text, length);
  if (nearest == NULL) return false;
  hak_line_text(line, "; the nearest is ");
  hak_line_text(line, nearest);
  return true;
}

// Ends and writes the line about a value that is not accepted.
static void finish_bad_value(struct hak_line *line, uint32_t id, const char *text,
                             const struct hak_gate_values *values) {
  hak_line_text(line, " is not accepted; accepted: ");
  hak_gate_add_accepted(line, &hak_gates[id]);
  hak_gate_add_used(line, id, values);
  if (id == HAK_GATE_PROFILE) add_profile_hint(line, text, hak_text_length(text));
  hak_gate_write_mistake(line, values);
}

static void report_bad_variable(const char *name, uint32_t id, const char *text, const struct hak_gate_values *values) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, name);
  hak_line_text(&line, "=");
  add_quoted(&line, text, SIZE_MAX);
  finish_bad_value(&line, id, text, values);
}

// Without the value, which may be a secret of another program.
static void report_unknown_variable(const char *name, size_t length, const struct hak_gate_values *values) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  add_quoted(&line, name, length);
  hak_line_text(&line, " in the environment is no setting");
  if (!add_nearest(&line, name, length)) hak_line_text(&line, "; HAKMEM_SHOW_CONFIG=1 lists them");
  hak_gate_write_mistake(&line, values);
}

static void report_more_unknown(uint32_t count) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_number(&line, count);
  hak_line_text(&line, " more variables of the environment that begin with " HAK_GATE_PREFIX " are no settings");
  hak_line_write(&line);
}

// ---- The environment ----------------------------------------------------------------------------

// With what the variables of the project's own tools begin.
static const char *const tools[] = {"HAKMEM_BENCH_", "HAKMEM_TEST_"};

// The texts of the settings in the environment, by the names and by the other names.
struct variables {
  const char *text[HAK_GATE_COUNT];
  const char *other_text[HAK_GATE_COUNT];
  uint32_t unknown;  // how many others begin with HAKMEM_
};

// How many bytes the name has in an entry "NAME=value". 0: the entry is not one of ours.
static size_t name_length(const char *entry) {
  // Most entries differ in the first byte.
  if (entry[0] != HAK_GATE_PREFIX[0] || !hak_text_begins(entry, HAK_GATE_PREFIX)) return 0;
  size_t length = sizeof HAK_GATE_PREFIX - 1;
  while (entry[length] != '=' && entry[length] != '\0') length++;
  return entry[length] == '=' ? length : 0;
}

// The setting with a variable of this name, or HAK_GATE_COUNT; and whether it is the other name.
static uint32_t find_variable(const char *name, size_t length, bool *is_other) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    *is_other = is_name(hak_gate_other_name(id), name, length);
    if (*is_other || is_name(hak_gates[id].name, name, length)) return id;
  }
  return HAK_GATE_COUNT;
}

// Whether the variable, whose name has `length` bytes, is no mistake although it is none of the settings above.
static bool is_another(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof tools / sizeof tools[0]; i++) {
    if (hak_text_begins(name, tools[i])) return true;
  }
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT; id++) {
    if (is_name(hak_gate_texts[id].name, name, length)) return true;
  }
  return false;
}

// Reads the environment once, because it may be long.
static void read_environment(char *const *environment, struct variables *variables) {
  hak_bytes_fill(variables, 0, sizeof *variables);
  for (; environment != NULL && *environment != NULL; environment++) {
    const size_t length = name_length(*environment);
    if (length == 0) continue;
    bool is_other;
    const uint32_t id = find_variable(*environment, length, &is_other);
    if (id == HAK_GATE_COUNT) {
      if (!is_another(*environment, length)) variables->unknown++;
      continue;
    }
    const char **place = is_other ? &variables->other_text[id] : &variables->text[id];
    if (*place == NULL) *place = *environment + length + 1;
  }
}

static void report_unknown(char *const *environment, uint32_t count, const struct hak_gate_values *values) {
  uint32_t told = 0;
  for (; told < count && told < UNKNOWN_MAX; environment++) {
    bool is_other;
    const size_t length = name_length(*environment);
    if (length == 0 || is_another(*environment, length)) continue;
    if (find_variable(*environment, length, &is_other) != HAK_GATE_COUNT) continue;
    report_unknown_variable(*environment, length, values);
    told++;
  }
  if (told < count) report_more_unknown(count - told);
}

// ---- Settings compiled in -----------------------------------------------------------------------

static bool names_gate(const struct hak_conf_item *item, uint32_t id) {
  const char *other = hak_gate_other_name(id);
  return hak_conf_names(item, hak_gates[id].name) || (other != NULL && hak_conf_names(item, other));
}

// Takes the setting's value from a text of settings, if it has one. The last accepted value counts.
static void take_conf(const char *text, enum hak_gate_origin origin, uint32_t id, struct hak_gate_values *values) {
  if (text == NULL || hak_conf_too_long(text)) return;
  struct hak_conf_item item;
  while (hak_conf_next(&text, &item)) {
    if (!item.is_pair || !names_gate(&item, id)) continue;
    if (hak_gate_parse(&hak_gates[id], item.value, &values->value[id])) values->origin[id] = (uint8_t)origin;
  }
}

static uint32_t find_gate(const struct hak_conf_item *item) {
  uint32_t id = 0;
  while (id < HAK_GATE_COUNT && !names_gate(item, id)) id++;
  return id;
}

// Writes the line about an item that is not accepted. `id`: the setting that it names, or HAK_GATE_COUNT.
static void report_item(const char *source, const struct hak_conf_item *item, uint32_t id,
                        const struct hak_gate_values *values) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, source);
  hak_line_text(&line, ": ");
  add_quoted(&line, item->text, item->length);
  if (id != HAK_GATE_COUNT) {
    finish_bad_value(&line, id, item->is_pair ? item->value : "", values);
    return;
  }
  hak_line_text(&line, " is not accepted; accepted: NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists");
  if (item->name != 0) {
    add_nearest(&line, item->text, item->name);
  } else {
    add_profile_hint(&line, item->text, item->length);
    add_preset_hint(&line, item->text, item->length);
  }
  hak_gate_write_mistake(&line, values);
}

// Writes a line for each item of the text that is not accepted, and returns whether there is none. Called last, when
// the value used instead is known.
static bool report_conf(const char *source, const char *text, const struct hak_gate_values *values) {
  if (text == NULL) return true;
  if (hak_conf_too_long(text)) {
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, source);
    hak_line_text(&line, " is not accepted; accepted: up to ");
    hak_line_number(&line, HAK_CONF_LENGTH_MAX);
    hak_line_text(&line, " bytes");
    if (values != NULL && !is_strict(values)) hak_line_text(&line, "; using nothing of it");
    hak_gate_write_mistake(&line, values);
    return false;
  }
  bool good = true;
  struct hak_conf_item item;
  while (hak_conf_next(&text, &item)) {
    const uint32_t id = find_gate(&item);
    uint64_t value;
    const bool accepted = id != HAK_GATE_COUNT && item.is_pair && hak_gate_parse(&hak_gates[id], item.value, &value);
    if (accepted) continue;
    good = false;
    report_item(source, &item, id, values);
  }
  return good;
}

bool hak_gate_check_build(const char *text) { return report_conf(build_source, text, NULL); }

// ---- Everything together ------------------------------------------------------------------------

void hak_gate_preset(uint32_t id, uint64_t preset, struct hak_gate_values *values) {
  const uint64_t *presets = hak_gates[id].preset;
  values->value[id] = presets[preset];
  values->origin[id] = presets[preset] != presets[HAK_PRESET_BALANCED] ? HAK_GATE_FROM_PRESET : HAK_GATE_BUILT_IN;
}

// Takes the setting's value from the environment, if it has one.
static void take_variable(const struct variables *variables, uint32_t id, struct hak_gate_values *values) {
  const char *name = hak_gates[id].name;
  const char *text = variables->text[id];
  if (text == NULL) {
    name = hak_gate_other_name(id);
    text = variables->other_text[id];
  }
  if (text == NULL) return;
  if (hak_gate_parse(&hak_gates[id], text, &values->value[id])) {
    values->origin[id] = HAK_GATE_FROM_ENVIRONMENT;
  } else {
    report_bad_variable(name, id, text, values);
  }
}

static void resolve_one(const struct hak_gate_sources *sources, const struct variables *variables, uint32_t id,
                        uint64_t preset, struct hak_gate_values *values) {
  hak_gate_preset(id, preset, values);
  take_conf(sources->build, HAK_GATE_FROM_BUILD, id, values);
  take_conf(sources->program, HAK_GATE_FROM_PROGRAM, id, values);
  if (!sources->fixed || id == HAK_GATE_SHOW_CONFIG || id == HAK_GATE_CONF_STRICT) take_variable(variables, id, values);
}

void hak_gate_resolve(const struct hak_gate_sources *sources, struct hak_gate_values *values) {
  struct variables variables;
  read_environment(sources->environment, &variables);
  // What follows from a mistake comes first.
  resolve_one(sources, &variables, HAK_GATE_CONF_STRICT, HAK_PRESET_BALANCED, values);
  resolve_one(sources, &variables, HAK_GATE_PROFILE, HAK_PRESET_BALANCED, values);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if (id == HAK_GATE_CONF_STRICT || id == HAK_GATE_PROFILE) continue;
    resolve_one(sources, &variables, id, values->value[HAK_GATE_PROFILE], values);
  }
  if (variables.unknown != 0) report_unknown(sources->environment, variables.unknown, values);
  (void)report_conf(program_source, sources->program, values);
  (void)report_conf(build_source, sources->build, values);
}

const char *hak_gate_source_name(enum hak_gate_origin origin) {
  static const char *const names[] = {"default",      "preset",      build_source,
                                      program_source, "environment", "hak_config_set"};
  static_assert(HAK_GATE_FROM_BUILD == 2 && HAK_GATE_FROM_PROGRAM == 3 && HAK_GATE_FROM_ENVIRONMENT == 4 &&
                    HAK_GATE_FROM_CALL == 5,
                "their order");
  return names[origin];
}

const char *hak_gate_origin_name(enum hak_gate_origin origin) {
  return HAK_FAST && origin != HAK_GATE_FROM_ENVIRONMENT ? "fixed in this build" : hak_gate_source_name(origin);
}

__attribute__((weak)) bool hak_gate_wraps_dlopen = false;

static bool has_effect(uint32_t id) {
  return hak_gates[id].works && (id != HAK_GATE_DROP_DEEPBIND || hak_gate_wraps_dlopen);
}

const char *hak_gate_build_name(void) { return VERSION " " HAK_PROFILE_NAME " header=" HAK_HEADER_NAME; }

void hak_gate_show(const struct hak_gate_values *values) {
  struct hak_line first = {.length = 0};
  hak_line_text(&first, "hakmem: version ");
  hak_line_text(&first, hak_gate_build_name());
  hak_line_write(&first);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, hak_gates[id].name);
    hak_line_text(&line, "=");
    hak_gate_add_value(&line, &hak_gates[id], values->value[id]);
    hak_line_text(&line, " (");
    hak_line_text(&line, hak_gate_origin_name((enum hak_gate_origin)values->origin[id]));
    if (!has_effect(id)) hak_line_text(&line, HAK_FAST ? "; no effect" : "; no effect in this build");
    hak_line_text(&line, ")");
    hak_line_write(&line);
  }
}

void hak_gate_show_use(bool in_use) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, in_use ? "hakmem: in use: this process calls hakmem "
                              : "hakmem: not in use: this process has not called hakmem ");
  hak_line_text(&line, hak_gate_build_name());
  hak_line_write(&line);
}
