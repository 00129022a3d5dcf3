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
  printf("Read once, before the first allocation, in STANDARD and OBSERVE builds. FAST builds have the values of\n");
  printf(
      "`balanced` fixed; a process with raised privileges (AT_SECURE) ignores the environment. A value that is not\n");
  printf("accepted is reported on stderr, and the default is used.\n\n");
  printf("`hak_config_get` and `HAKMEM_SHOW_CONFIG=1` tell each value and where it came from.\n\n");
  printf("| variable | values | `balanced` | `speed` | `lean` | layer | meaning |\n");
  printf("| --- | --- | --- | --- | --- | --- | --- |\n");
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const struct hak_gate *gate = &hak_gates[id];
    printf("| `%s` | ", gate->name);
    print_values(gate);
    for (uint32_t preset = 0; preset < HAK_PRESET_COUNT; preset++) {
      printf(" | ");
      print_value(gate, gate->preset[preset]);
    }
    printf(" | %s | %s |\n", gate->layer, gate->text);
  }
  return 0;
}
