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
  printf(
      "the values are fixed at build time; FAST reads only `HAKMEM_SHOW_CONFIG`. A process with raised privileges\n");
  printf("(AT_SECURE) ignores its environment. hakmem reports a value that it does not accept on stderr, and uses\n");
  printf("the value that would apply otherwise.\n\n");
  printf("A program can change the settings with `yes` under `later` at run time, by\n");
  printf(
      "`hak_config_set(\"NAME\", \"value\")`. A program (`const char *hak_conf`) or a build (`//configs:conf`) can\n");
  printf("also compile settings in: [EMBEDDING.md](EMBEDDING.md#settings-compiled-in). Of the sources that give a\n");
  printf("setting, the first in this table wins:\n\n");
  printf("| source | shown as | FAST | AT_SECURE |\n");
  printf("| --- | --- | --- | --- |\n");
  printf("| a call of `hak_config_set` | `hak_config_set` | refused | obeyed |\n");
  printf("| the environment | `environment` | ignored | ignored |\n");
  printf("| `hak_conf` of the program | `hak_conf` | ignored | obeyed |\n");
  printf("| `//configs:conf` of the build | `//configs:conf` | obeyed | obeyed |\n");
  printf(
      "| the preset, `HAKMEM_PROFILE` | `preset`, or `default` where `balanced` has the same value | obeyed | obeyed "
      "|\n\n");
  printf(
      "`hak_config_get` and `HAKMEM_SHOW_CONFIG=1` report each value and its source; in FAST builds every source is\n");
  printf("`fixed in this build`.\n\n");
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
  return 0;
}
