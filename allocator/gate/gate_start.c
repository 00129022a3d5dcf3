// SPDX-License-Identifier: Apache-2.0
//
// Reads the process's settings at the start.
#include "allocator/gate/gate_start.h"

#include <hakmem/hakmem.h>
#include <unistd.h>

#include "allocator/gate/gate.h"
#include "allocator/gate/gate_config.h"
#include "allocator/gate/gate_now.h"
#include "allocator/os/auxv.h"
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
  if (values.value[HAK_GATE_SHOW_CONFIG] != 0) hak_gate_show(&values);
}
