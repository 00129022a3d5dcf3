// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/ENV.md from the table of settings.
#include <inttypes.h>
#include <stdio.h>

#include "allocator/gate/gate.h"

static void print_values(const struct hak_gate *gate) {
  if (gate->choices == NULL) {
    printf("%" PRIu64 " to %" PRIu64 " %s", gate->least, gate->most, gate->unit);
    return;
  }
  for (size_t i = 0; gate->choices[i] != NULL; i++) printf("%s`%s`", i != 0 ? ", " : "", gate->choices[i]);
}

static void print_value(const struct hak_gate *gate, uint64_t value) {
  if (gate->choices != NULL) {
    printf("`%s`", gate->choices[value]);
  } else {
    printf("%" PRIu64, value);
  }
}

int main(void) {
  printf("<!-- SPDX-License-Identifier: Apache-2.0 -->\n");
  printf("<!-- Written from allocator/policy/gate_table.inc by //allocator/gate:env_doc; do not edit. -->\n");
  printf("# Environment variables\n\n");
  printf("STANDARD, OBSERVE and HARDENED builds read these variables before the first allocation. In FAST builds\n");
  printf("the values are fixed at build time; FAST reads only `HAKMEM_SHOW_CONFIG` and `HAKMEM_CONF_STRICT`. A\n");
  printf("process with raised privileges (AT_SECURE) ignores its environment.\n\n");
  printf("A value of `0` or `1` may also be written `off`, `false`, `no` or `on`, `true`, `yes`, in upper or lower\n");
  printf(
      "case. A size, which is in KiB or MiB, may have a suffix instead: `64K`, `512M`, `1G` or `1T` bytes (powers\n");
  printf("of 1,024); it must be a whole number of the unit. So `HAKMEM_MEMORY_LIMIT_MB=1G` is 1,024 MiB.\n\n");
  printf(
      "A mistake is one line on stderr: a value that is not accepted, for which the value is used that would apply\n");
  printf("otherwise; and a variable that begins with `" HAK_GATE_PREFIX
         "` and is no setting, with the nearest name (after\n");
  printf(
      "eight such lines the rest is counted). With `HAKMEM_CONF_STRICT=1` the first mistake ends the process before\n");
  printf("main, with status 1. Variables that begin with `HAKMEM_BENCH_` or `HAKMEM_TEST_` belong to hakmem's own\n");
  printf("tools, and are not reported.\n\n");
  printf("A program can change the settings with `yes` under `later` at run time, by\n");
  printf(
      "`hak_config_set(\"NAME\", \"value\")`. A program (`const char *hak_conf`) or a build (`//configs:conf`) can\n");
  printf("also compile settings in: [EMBEDDING.md](EMBEDDING.md#settings-compiled-in). Of the sources that give a\n");
  printf("setting, the first in this table wins:\n\n");
  printf("| source | shown as | FAST | AT_SECURE |\n");
  printf("| --- | --- | --- | --- |\n");
  printf("| a call of `hak_config_set` | `hak_config_set` | refused | obeyed |\n");
  printf("| the environment | `environment` | only those two | ignored |\n");
  printf("| `hak_conf` of the program | `hak_conf` | ignored | obeyed |\n");
  printf("| `//configs:conf` of the build | `//configs:conf` | obeyed | obeyed |\n");
  printf(
      "| the preset, `HAKMEM_PROFILE` | `preset`, or `default` where `balanced` has the same value | obeyed | obeyed "
      "|\n\n");
  printf(
      "`hak_config_get` and `HAKMEM_SHOW_CONFIG=1` report each value and its source; in FAST builds every source "
      "but\n");
  printf(
      "the environment is `fixed in this build`. `HAKMEM_SHOW_CONFIG=1` begins with the version, the profile and "
      "the\n");
  printf("header mode, and marks settings that have no effect in the build, such as `HAKMEM_GUARD_SAMPLE` outside\n");
  printf("HARDENED.\n\n");
  printf("`rooms` names the folders of `allocator/` that a setting takes effect in.\n\n");
  printf("| variable | values | `balanced` | `speed` | `lean` | rooms | later | meaning |\n");
  printf("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const struct hak_gate *gate = &hak_gates[id];
    printf("| `%s` | ", gate->name);
    print_values(gate);
    for (uint32_t preset = 0; preset < HAK_PRESET_COUNT; preset++) {
      printf(" | ");
      print_value(gate, gate->preset[preset]);
    }
    printf(" | %s | %s | %s |\n", gate->rooms, gate->change == HAK_GATE_ANY_TIME ? "yes" : "no", gate->text);
  }
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT; id++) {
    const struct hak_gate_text *text = &hak_gate_texts[id];
    printf("| `%s` | %s, from the environment only | none | none | none | %s | no | %s |\n", text->name, text->value,
           text->rooms, text->text);
  }
  return 0;
}
