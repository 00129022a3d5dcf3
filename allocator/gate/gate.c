// SPDX-License-Identifier: Apache-2.0
//
// Resolves the settings from all sources, and reports values that are not accepted.
#include "allocator/gate/gate.h"

#include <hakmem/hakmem.h>
#include <unistd.h>

#include "allocator/gate/conf.h"
#include "allocator/os/bytes.h"
#include "allocator/os/report.h"

static const char program_source[] = "hak_conf";
static const char build_source[] = "//configs:conf";

static_assert(HAK_DECOMMIT_OFF == 0 && HAK_DECOMMIT_FREE == 1 && HAK_DECOMMIT_DONTNEED == 2, "order of the names");
static_assert(HAK_HUGE_PAGES_AUTO == 0 && HAK_HUGE_PAGES_ON == 1 && HAK_HUGE_PAGES_OFF == 2, "order of the names");
static_assert(HAK_SLAB_MAP_AUTO == 0 && HAK_SLAB_MAP_FLAT == 1 && HAK_SLAB_MAP_TWO_LEVEL == 2, "order of the names");

// Other names of choices.
static const struct {
  enum hak_gate_id gate;
  const char *name;
  uint64_t value;
} aliases[] = {
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_BALANCED", HAK_PRESET_BALANCED},
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_SAFE", HAK_PRESET_SPEED},
};

const struct hak_gate hak_gates[HAK_GATE_COUNT] = {
#define HAK_CHOICES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define HAK_GATE_CHOICE(id, field, type, name_, choices_, balanced_, speed_, lean_, rooms_, change_, text_) \
  [HAK_GATE_##id] = {.name = (name_),                                                                       \
                     .choices = (choices_),                                                                 \
                     .preset = {(balanced_), (speed_), (lean_)},                                            \
                     .rooms = (rooms_),                                                                     \
                     .change = (change_),                                                                   \
                     .text = (text_)},
#define HAK_GATE_NUMBER(id, field, name_, least_, most_, unit_, balanced_, speed_, lean_, rooms_, change_, text_) \
  [HAK_GATE_##id] = {.name = (name_),                                                                             \
                     .least = (least_),                                                                           \
                     .most = (most_),                                                                             \
                     .unit = (unit_),                                                                             \
                     .preset = {(balanced_), (speed_), (lean_)},                                                  \
                     .rooms = (rooms_),                                                                           \
                     .change = (change_),                                                                         \
                     .text = (text_)},
#include "allocator/policy/gate_table.inc"
#undef HAK_CHOICES
};

const char *hak_gate_other_name(uint32_t id) { return id == HAK_GATE_PROFILE ? "HAKMEM_PRESET" : NULL; }

uint32_t hak_gate_named(const char *name) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const char *other = hak_gate_other_name(id);
    if (hak_text_is(hak_gates[id].name, name) || (other != NULL && hak_text_is(other, name))) return id;
  }
  return HAK_GATE_COUNT;
}

static bool parse_number(const char *text, uint64_t *value) {
  if (*text == '\0') return false;
  uint64_t number = 0;
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9') return false;
    if (__builtin_mul_overflow(number, 10, &number)) return false;
    if (__builtin_add_overflow(number, (uint64_t)(*text - '0'), &number)) return false;
  }
  *value = number;
  return true;
}

bool hak_gate_parse(const struct hak_gate *gate, const char *text, uint64_t *value) {
  uint64_t number;
  if (gate->choices == NULL) {
    if (!parse_number(text, &number) || number < gate->least || number > gate->most) return false;
    *value = number;
    return true;
  }
  for (uint64_t i = 0; gate->choices[i] != NULL; i++) {
    if (hak_text_is(text, gate->choices[i])) {
      *value = i;
      return true;
    }
  }
  for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
    if (&hak_gates[aliases[i].gate] == gate && hak_text_is(text, aliases[i].name)) {
      *value = aliases[i].value;
      return true;
    }
  }
  return false;
}

static void add_value(struct hak_line *line, const struct hak_gate *gate, uint64_t value) {
  if (gate->choices != NULL) {
    hak_line_text(line, gate->choices[value]);
  } else {
    hak_line_number(line, (int64_t)value);
  }
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

// Adds a hint if the value of the preset is the name of a build profile.
static void add_hint(struct hak_line *line, const struct hak_gate *gate, const char *text) {
  static const char *const profiles[] = {"fast", "standard", "observe", "hardened"};
  if (gate != &hak_gates[HAK_GATE_PROFILE]) return;
  for (size_t i = 0; i < sizeof profiles / sizeof profiles[0]; i++) {
    if (!hak_text_is(text, profiles[i])) continue;
    hak_line_text(line, "; ");
    hak_line_text(line, profiles[i]);
    hak_line_text(line, " is a profile, which is chosen when hakmem is built");
  }
}

// Ends and writes the line about a value that is not accepted.
static void finish_bad_value(struct hak_line *line, const struct hak_gate *gate, const char *text, uint64_t used) {
  hak_line_text(line, " is not accepted; accepted: ");
  if (gate->choices != NULL) {
    for (size_t i = 0; gate->choices[i] != NULL; i++) {
      if (i != 0) hak_line_text(line, ", ");
      hak_line_text(line, gate->choices[i]);
    }
  } else {
    hak_line_number(line, (int64_t)gate->least);
    hak_line_text(line, " to ");
    hak_line_number(line, (int64_t)gate->most);
    hak_line_text(line, " ");
    hak_line_text(line, gate->unit);
  }
  hak_line_text(line, "; using ");
  add_value(line, gate, used);
  add_hint(line, gate, text);
  hak_line_write(line);
}

static void report_bad_variable(const char *name, const struct hak_gate *gate, const char *text, uint64_t used) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, name);
  hak_line_text(&line, "=");
  add_quoted(&line, text, SIZE_MAX);
  finish_bad_value(&line, gate, text, used);
}

const char *hak_gate_variable(char *const *environment, const char *name) {
  const size_t length = hak_text_length(name);
  for (; environment != NULL && *environment != NULL; environment++) {
    if (hak_text_begins(*environment, name) && (*environment)[length] == '=') return *environment + length + 1;
  }
  return NULL;
}

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

void hak_gate_preset(uint32_t id, uint64_t preset, struct hak_gate_values *values) {
  const uint64_t *presets = hak_gates[id].preset;
  values->value[id] = presets[preset];
  values->origin[id] = presets[preset] != presets[HAK_PRESET_BALANCED] ? HAK_GATE_FROM_PRESET : HAK_GATE_BUILT_IN;
}

static void resolve_one(const struct hak_gate_sources *sources, uint32_t id, uint64_t preset,
                        struct hak_gate_values *values) {
  const struct hak_gate *gate = &hak_gates[id];
  hak_gate_preset(id, preset, values);
  take_conf(sources->build, HAK_GATE_FROM_BUILD, id, values);
  take_conf(sources->program, HAK_GATE_FROM_PROGRAM, id, values);
  const char *name = gate->name;
  const char *text = hak_gate_variable(sources->environment, name);
  if (text == NULL && hak_gate_other_name(id) != NULL) {
    name = hak_gate_other_name(id);
    text = hak_gate_variable(sources->environment, name);
  }
  if (text == NULL) return;
  if (hak_gate_parse(gate, text, &values->value[id])) {
    values->origin[id] = HAK_GATE_FROM_ENVIRONMENT;
  } else {
    report_bad_variable(name, gate, text, values->value[id]);
  }
}

static uint32_t find_gate(const struct hak_conf_item *item) {
  uint32_t id = 0;
  while (id < HAK_GATE_COUNT && !names_gate(item, id)) id++;
  return id;
}

// Writes a line for each item of the text that is not accepted. Called last, when the value used instead is known.
static void report_conf(const char *source, const char *text, const struct hak_gate_values *values) {
  struct hak_conf_item item;
  if (text == NULL) return;
  if (hak_conf_too_long(text)) {
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, source);
    hak_line_text(&line, " is not accepted; accepted: up to ");
    hak_line_number(&line, HAK_CONF_LENGTH_MAX);
    hak_line_text(&line, " bytes; using nothing of it");
    hak_line_write(&line);
    return;
  }
  while (hak_conf_next(&text, &item)) {
    const uint32_t id = find_gate(&item);
    uint64_t value;
    if (id != HAK_GATE_COUNT && item.is_pair && hak_gate_parse(&hak_gates[id], item.value, &value)) continue;
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, source);
    hak_line_text(&line, ": ");
    add_quoted(&line, item.text, item.length);
    if (id != HAK_GATE_COUNT) {
      finish_bad_value(&line, &hak_gates[id], item.is_pair ? item.value : "", values->value[id]);
    } else {
      hak_line_text(&line, " is not accepted; accepted: NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists");
      hak_line_write(&line);
    }
  }
}

void hak_gate_resolve(const struct hak_gate_sources *sources, struct hak_gate_values *values) {
  resolve_one(sources, HAK_GATE_PROFILE, HAK_PRESET_BALANCED, values);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    if (id != HAK_GATE_PROFILE) resolve_one(sources, id, values->value[HAK_GATE_PROFILE], values);
  }
  report_conf(program_source, sources->program, values);
  report_conf(build_source, sources->build, values);
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
  return HAK_FAST ? "fixed in this build" : hak_gate_source_name(origin);
}

void hak_gate_show(const struct hak_gate_values *values) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, hak_gates[id].name);
    hak_line_text(&line, "=");
    add_value(&line, &hak_gates[id], values->value[id]);
    hak_line_text(&line, " (");
    hak_line_text(&line, hak_gate_origin_name((enum hak_gate_origin)values->origin[id]));
    hak_line_text(&line, ")");
    hak_line_write(&line);
  }
}
