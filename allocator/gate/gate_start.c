// SPDX-License-Identifier: Apache-2.0
//
// Reads the process's settings at the start.
#include "allocator/gate/gate_start.h"

#include <hakmem/hakmem.h>
#include <unistd.h>

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_config.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_row.h"
#include "allocator/os/auxv.h"
#include "allocator/os/bytes.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"

// Made from //configs:conf. Builds without Bazel, such as OSS-Fuzz's, have no such text.
#if __has_include("allocator/gate/build_conf.h")
#include "allocator/gate/build_conf.h"
#else
#define HAK_BUILD_CONF ""
#endif

// Weak, so that a program's own definition replaces it: by the linker if the executable contains the allocator, by the
// dynamic linker if a shared library does. For the same reason the compiler assumes nothing about its value.
__attribute__((weak)) const char *hak_conf;

// A limit below what the process already uses would refuse everything. It is reported and not set.
static void check_memory_limit(struct hak_gate_values *values) {
  const uint64_t limit = values->value[HAK_GATE_MEMORY_LIMIT];
  if (limit == 0) return;
  const uint64_t in_use = hak_gate_limit_floor();
  if (limit > in_use) return;
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  const uint8_t origin = values->origin[HAK_GATE_MEMORY_LIMIT];
  if (origin != HAK_GATE_FROM_ENVIRONMENT) {
    hak_line_text(&line, hak_gate_source_name((enum hak_gate_origin)origin));
    hak_line_text(&line, ": ");
  }
  hak_line_text(&line, "HAKMEM_MEMORY_LIMIT_MB=\"");
  hak_line_number(&line, (int64_t)limit);
  hak_line_text(&line, "\" is not accepted; accepted: 0, or more than the ");
  hak_line_number(&line, (int64_t)in_use);
  hak_line_text(&line, " MiB in use");
  values->value[HAK_GATE_MEMORY_LIMIT] = 0;
  values->origin[HAK_GATE_MEMORY_LIMIT] = HAK_GATE_BUILT_IN;
  hak_gate_add_used(&line, HAK_GATE_MEMORY_LIMIT, values);
  hak_gate_write_mistake(&line, values);
}

// ---- Texts --------------------------------------------------------------------------------------

#if HAK_PROF

// Copies: a program may write over the environment with which it was started.
static char texts[HAK_GATE_TEXT_COUNT][HAK_GATE_TEXT_BYTES];

const char *hak_gate_text(enum hak_gate_text_id id) { return texts[id]; }

// The value of the variable; NULL: there is none. The first one counts.
static const char *variable(char *const *environment, const char *name) {
  const size_t length = hak_text_length(name);
  for (; environment != NULL && *environment != NULL; environment++) {
    if (hak_text_begins(*environment, name) && (*environment)[length] == '=') return *environment + length + 1;
  }
  return NULL;
}

static void report_long(const char *name, const struct hak_gate_values *values) {
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, name);
  hak_line_text(&line, " is not accepted; accepted: up to ");
  hak_line_number(&line, HAK_GATE_TEXT_BYTES - 1);
  hak_line_text(&line, " bytes");
  hak_gate_write_mistake(&line, values);
}

static void take_texts(char *const *environment, const struct hak_gate_values *values) {
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT; id++) {
    const char *text = variable(environment, hak_gate_texts[id].name);
    const size_t length = text != NULL ? hak_text_length(text) : 0;
    if (length >= HAK_GATE_TEXT_BYTES) {
      report_long(hak_gate_texts[id].name, values);
    } else if (text != NULL) {
      hak_bytes_copy(texts[id], text, length + 1);
    }
  }
}

#else

const char *hak_gate_text(enum hak_gate_text_id id) {
  (void)id;
  return "";
}
static void take_texts(char *const *environment, const struct hak_gate_values *values) {
  (void)environment;
  (void)values;
}

#endif

// As hak_gate_show does for the others.
static void show_texts(void) {
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT; id++) {
    const char *text = hak_gate_text((enum hak_gate_text_id)id);
    struct hak_line line;
    hak_line_begin(&line);
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, hak_gate_texts[id].name);
    hak_line_text(&line, "=");
    hak_line_outside_text(&line, text);
    hak_line_text(&line, HAK_FAST        ? " (fixed in this build; no effect)"
                         : *text != '\0' ? " (environment)"
                                         : " (default)");
    hak_line_write(&line);
  }
}

// ---- The start ----------------------------------------------------------------------------------

// Written only while there is one thread.
static char *const *first_environment;

void hak_gate_set_environment(char *const *environment) { first_environment = environment; }

void hak_gate_init(void) {
  const bool secure = hak_auxv(HAK_AUXV_SECURE) != 0;
  char *const *const present = environ != NULL ? environ : first_environment;
  const struct hak_gate_sources sources = {
      .environment = secure ? NULL : present,
      .program = HAK_FAST ? NULL : hak_conf,
      .build = HAK_BUILD_CONF,
      .fixed = HAK_FAST,
  };
  struct hak_gate_values values;
  hak_gate_resolve(&sources, &values);
  check_memory_limit(&values);
  hak_gate_fill_config(&values, &hak_config);
  hak_gate_now_init(&values);
  take_texts(sources.environment, &values);
  if (values.value[HAK_GATE_SHOW_CONFIG] != 0) hak_gate_show(&values);
  if (values.value[HAK_GATE_SHOW_CONFIG] != 0) show_texts();
}
