// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/ENV.md from the table of gates.
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
  printf("<!-- Written from allocator/gate/gate_table.inc by //allocator/gate:env_doc; do not edit. -->\n");
  printf("# Environment variables\n\n");
  printf("Read before the first allocation, in STANDARD, OBSERVE and HARDENED builds. A process with raised\n");
  printf(
      "privileges (AT_SECURE) ignores the environment, and FAST builds have their values fixed. A value that is not\n");
  printf("accepted is reported on stderr, and what holds without it is used.\n\n");
  printf(
      "A program may change those with `yes` under `later` while it runs, by `hak_config_set(\"NAME\", \"value\")`.\n");
  printf(
      "The same settings can be compiled in, by a program (`const char *hak_conf`) or a build (`//configs:conf`):\n");
  printf(
      "[EMBEDDING.md](EMBEDDING.md#settings-compiled-in). For each variable the first of these that sets it "
      "counts:\n\n");
  printf("| source | shown as | FAST | AT_SECURE |\n");
  printf("| --- | --- | --- | --- |\n");
  printf("| a call of `hak_config_set` | `hak_config_set` | refused | obeyed |\n");
  printf("| the environment | `environment` | ignored | ignored |\n");
  printf("| `hak_conf` of the program | `hak_conf` | ignored | obeyed |\n");
  printf("| `//configs:conf` of the build | `//configs:conf` | obeyed | obeyed |\n");
  printf(
      "| the preset, `HAKMEM_PROFILE` | `preset`, or `default` where `balanced` has the same | obeyed | obeyed |\n\n");
  printf(
      "`hak_config_get` and `HAKMEM_SHOW_CONFIG=1` tell each value and where it came from; in FAST builds all are\n");
  printf("`fixed in this build`.\n\n");
  printf("| variable | values | `balanced` | `speed` | `lean` | layer | later | meaning |\n");
  printf("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const struct hak_gate *gate = &hak_gates[id];
    printf("| `%s` | ", gate->name);
    print_values(gate);
    for (uint32_t preset = 0; preset < HAK_PRESET_COUNT; preset++) {
      printf(" | ");
      print_value(gate, gate->preset[preset]);
    }
    printf(" | %s | %s | %s |\n", gate->layer, gate->change == HAK_GATE_ANY_TIME ? "yes" : "no", gate->text);
  }
  return 0;
}
