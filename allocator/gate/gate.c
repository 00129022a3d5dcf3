// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/gate.h"

#include <hakmem/hakmem.h>
#include <string.h>
#include <unistd.h>

#include "allocator/gate/conf.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/ss_mem_lean.h"
#include "allocator/os/auxv.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"

// Made from //configs:conf. A build without Bazel, as that of OSS-Fuzz, has no such setting.
#if __has_include("allocator/gate/build_conf.h")
#include "allocator/gate/build_conf.h"
#else
#define HAK_BUILD_CONF ""
#endif

// Weak, so that a program's own definition takes its place: the linker's choice in an executable that holds the
// allocator, the dynamic linker's where it lies in a shared library. For the same reason the compiler assumes nothing
// about its value.
__attribute__((weak)) const char *hak_conf;

static const char program_source[] = "hak_conf";
static const char build_source[] = "//configs:conf";

static const char *const preset_names[] = {"balanced", "speed", "lean", NULL};
static const char *const slab_map_names[] = {"auto", "flat", "two_level", NULL};
static const char *const switch_names[] = {"0", "1", NULL};
static const char *const decommit_names[] = {"OFF", "FREE", "DONTNEED", NULL};
static const char *const huge_page_names[] = {"auto", "on", "off", NULL};
static_assert(HAK_DECOMMIT_OFF == 0 && HAK_DECOMMIT_FREE == 1 && HAK_DECOMMIT_DONTNEED == 2, "order of the names");
static_assert(HAK_HUGE_PAGES_AUTO == 0 && HAK_HUGE_PAGES_ON == 1 && HAK_HUGE_PAGES_OFF == 2, "order of the names");
static_assert(HAK_SLAB_MAP_AUTO == 0 && HAK_SLAB_MAP_FLAT == 1 && HAK_SLAB_MAP_TWO_LEVEL == 2, "order of the names");

// Other names that a choice is known by.
static const struct {
  enum hak_gate_id gate;
  const char *name;
  uint64_t value;
} aliases[] = {
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_BALANCED", HAK_PRESET_BALANCED},
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_SAFE", HAK_PRESET_SPEED},
};

const struct hak_gate hak_gates[HAK_GATE_COUNT] = {
#define HAK_GATE_CHOICE(id, name_, choices_, balanced_, speed_, lean_, layer_, change_, text_) \
  [HAK_GATE_##id] = {.name = (name_),                                                          \
                     .choices = (choices_),                                                    \
                     .preset = {(balanced_), (speed_), (lean_)},                               \
                     .layer = (layer_),                                                        \
                     .change = (change_),                                                      \
                     .text = text_},
#define HAK_GATE_NUMBER(id, name_, least_, most_, unit_, balanced_, speed_, lean_, layer_, change_, text_) \
  [HAK_GATE_##id] = {.name = (name_),                                                                      \
                     .least = (least_),                                                                    \
                     .most = (most_),                                                                      \
                     .unit = (unit_),                                                                      \
                     .preset = {(balanced_), (speed_), (lean_)},                                           \
                     .layer = (layer_),                                                                    \
                     .change = (change_),                                                                  \
                     .text = text_},
#include "allocator/gate/gate_table.inc"
#undef HAK_GATE_CHOICE
#undef HAK_GATE_NUMBER
};

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
    if (strcmp(text, gate->choices[i]) == 0) {
      *value = i;
      return true;
    }
  }
  for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
    if (&hak_gates[aliases[i].gate] == gate && strcmp(text, aliases[i].name) == 0) {
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

// The text in quotes, cut after 64 bytes.
static void add_quoted(struct hak_line *line, const char *text, size_t length) {
  hak_line_text(line, "\"");
  for (size_t i = 0; i < length && i < 64 && text[i] != '\0'; i++) {
    // What comes from outside must not fake lines or move the cursor.
    const char shown[2] = {text[i] >= ' ' && text[i] <= '~' ? text[i] : '?', '\0'};
    hak_line_text(line, shown);
  }
  hak_line_text(line, "\"");
}

// The end of a line on a bad value, and the line.
static void finish_bad_value(struct hak_line *line, const struct hak_gate *gate, uint64_t used) {
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
  hak_line_write(line);
}

static void report_bad_variable(const struct hak_gate *gate, const char *text, uint64_t used) {
  struct hak_line line = {.length = 0};
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, gate->name);
  hak_line_text(&line, "=");
  add_quoted(&line, text, SIZE_MAX);
  finish_bad_value(&line, gate, used);
}

// The value of the variable in the environment, or NULL.
static const char *find_variable(char *const *environment, const char *name) {
  const size_t length = strlen(name);
  for (; environment != NULL && *environment != NULL; environment++) {
    if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return *environment + length + 1;
  }
  return NULL;
}

// What the text of settings says of this gate, if anything: the last accepted value counts.
static void take_conf(const char *text, enum hak_gate_origin origin, uint32_t id, struct hak_gate_values *values) {
  if (text == NULL || hak_conf_too_long(text)) return;
  struct hak_conf_item item;
  while (hak_conf_next(&text, &item)) {
    if (!item.is_pair || !hak_conf_names(&item, hak_gates[id].name)) continue;
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
  const char *text = find_variable(sources->environment, gate->name);
  if (text == NULL) return;
  if (hak_gate_parse(gate, text, &values->value[id])) {
    values->origin[id] = HAK_GATE_FROM_ENVIRONMENT;
  } else {
    report_bad_variable(gate, text, values->value[id]);
  }
}

static uint32_t find_gate(const struct hak_conf_item *item) {
  uint32_t id = 0;
  while (id < HAK_GATE_COUNT && !hak_conf_names(item, hak_gates[id].name)) id++;
  return id;
}

// A line for each item of the text that is not accepted. Comes last, when it is known what is used instead.
static void report_conf(const char *source, const char *text, const struct hak_gate_values *values) {
  struct hak_conf_item item;
  if (text == NULL) return;
  if (hak_conf_too_long(text)) {
    struct hak_line line = {.length = 0};
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
    struct hak_line line = {.length = 0};
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, source);
    hak_line_text(&line, ": ");
    add_quoted(&line, item.text, item.length);
    if (id != HAK_GATE_COUNT) {
      finish_bad_value(&line, &hak_gates[id], values->value[id]);
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

const char *hak_gate_origin_name(enum hak_gate_origin origin) {
  static const char *const names[] = {"default",      "preset",      build_source,
                                      program_source, "environment", "hak_config_set"};
  static_assert(HAK_GATE_FROM_BUILD == 2 && HAK_GATE_FROM_PROGRAM == 3 && HAK_GATE_FROM_ENVIRONMENT == 4 &&
                    HAK_GATE_FROM_CALL == 5,
                "their order");
  return HAK_FAST ? "fixed in this build" : names[origin];
}

void hak_gate_show(const struct hak_gate_values *values) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    struct hak_line line = {.length = 0};
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

uint64_t hak_gate_limit_floor(void) { return hak_os_resident_bytes() >> 20; }

// A limit that the process is beyond already could only refuse everything: it is reported, and not set.
static void check_memory_limit(struct hak_gate_values *values) {
  const uint64_t limit = values->value[HAK_GATE_MEMORY_LIMIT];
  if (limit == 0) return;
  const uint64_t in_use = hak_gate_limit_floor();
  if (limit > in_use) return;
  struct hak_line line = {.length = 0};
  hak_line_text(&line, "hakmem: ");
  const uint8_t origin = values->origin[HAK_GATE_MEMORY_LIMIT];
  if (origin != HAK_GATE_FROM_ENVIRONMENT) {
    hak_line_text(&line, origin == HAK_GATE_FROM_PROGRAM ? program_source : build_source);
    hak_line_text(&line, ": ");
  }
  hak_line_text(&line, "HAKMEM_MEMORY_LIMIT_MB=\"");
  hak_line_number(&line, (int64_t)limit);
  hak_line_text(&line, "\" is not accepted; accepted: 0, or more than the ");
  hak_line_number(&line, (int64_t)in_use);
  hak_line_text(&line, " MiB in use; using 0");
  hak_line_write(&line);
  values->value[HAK_GATE_MEMORY_LIMIT] = 0;
  values->origin[HAK_GATE_MEMORY_LIMIT] = HAK_GATE_BUILT_IN;
}

void hak_gate_fill_config(const struct hak_gate_values *values, struct hak_config *config) {
  const uint64_t *value = values->value;
  config->decommit_deadline_ms = value[HAK_GATE_DECOMMIT_DEADLINE];
  config->thread_cache_bytes = value[HAK_GATE_THREAD_CACHE] * 1024;
  config->thread_cache_share = value[HAK_GATE_THREAD_CACHE_SHARE];
  config->idle_cache_ms = value[HAK_GATE_IDLE_CACHE];
  config->page_purge = value[HAK_GATE_PAGE_PURGE] != 0;
  config->idle_watch = value[HAK_GATE_IDLE_WATCH] != 0;
  config->background = value[HAK_GATE_BACKGROUND] != 0;
  config->fine_classes = value[HAK_GATE_FINE_CLASSES] != 0;
  config->borrow = value[HAK_GATE_BORROW] != 0;
  config->mapping_cache_bytes = value[HAK_GATE_MAPPING_CACHE] * 1024;
  config->keep_superslabs = value[HAK_GATE_KEEP_SUPERSLABS];
  config->keep_free_bytes = value[HAK_GATE_KEEP_FREE] * 1024;
  config->memory_limit_bytes = value[HAK_GATE_MEMORY_LIMIT] << 20;
  config->guard_sample = value[HAK_GATE_GUARD_SAMPLE];
  config->cgroup_limit = value[HAK_GATE_CGROUP_LIMIT] != 0;
  config->huge_pages = (enum hak_huge_pages)value[HAK_GATE_THP];
  config->slab_map_form = (enum hak_slab_map_form)value[HAK_GATE_SLAB_MAP];
  config->stats_at_exit = value[HAK_GATE_STATS_AT_EXIT] != 0;
  hak_ss_mem_lean_resolve(values, config);
}

// Written before there is a second thread.
static char *const *first_environment;

void hak_gate_set_environment(char *const *environment) { first_environment = environment; }

void hak_gate_init(void) {
  const bool secure = hak_auxv(HAK_AUXV_SECURE) != 0;
  char *const *const present = environ != NULL ? environ : first_environment;
  char *const *const environment = secure ? NULL : present;
  const struct hak_gate_sources sources = {
      .environment = HAK_FAST ? NULL : environment,
      .program = HAK_FAST ? NULL : hak_conf,
      .build = HAK_BUILD_CONF,
  };
  struct hak_gate_values values;
  hak_gate_resolve(&sources, &values);
  check_memory_limit(&values);
  hak_gate_fill_config(&values, &hak_config);
  hak_gate_now_init(&values);
  // FAST has no live gates, but it still answers this question.
  const char *show = HAK_FAST ? find_variable(environment, hak_gates[HAK_GATE_SHOW_CONFIG].name) : NULL;
  uint64_t wanted = values.value[HAK_GATE_SHOW_CONFIG];
  if (show != NULL) hak_gate_parse(&hak_gates[HAK_GATE_SHOW_CONFIG], show, &wanted);
  if (wanted != 0) hak_gate_show(&values);
}
