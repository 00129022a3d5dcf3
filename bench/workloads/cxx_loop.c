// SPDX-License-Identifier: Apache-2.0
//
// The loop of cpp_containers, in the program that is linked with the C++ library.
#include "bench/workloads/checked.h"
#include "bench/workloads/cxx_containers.h"

static void cpp_containers_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    if (!cxx_containers_round(random_next(&state), s->ws)) wrong_block("of a container lost its contents", 0);
  }
  // Elements, each in four containers: how many calls these make is the C++ library's choice.
  lane_end(lane, s->cycles * s->ws * 4);
}

struct result cpp_containers_run(const struct settings *s) { return lanes_run(s, NULL, cpp_containers_body); }
