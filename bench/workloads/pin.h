// SPDX-License-Identifier: Apache-2.0
//
// Runs threads on chosen processors.
#ifndef HAKMEM_BENCH_WORKLOADS_PIN_H_
#define HAKMEM_BENCH_WORKLOADS_PIN_H_

#include <stdbool.h>
#include <stdint.h>

// The first processor that this process may use, and of the others the nearest to it, or the farthest. With two they
// are the same pair. False: there is only one.
bool pin_choose(bool near, int cpus[2], uint64_t *round_trip_ns);

// From now on the calling thread runs on this processor. False: it may not.
bool pin_to(int cpu);

#endif  // HAKMEM_BENCH_WORKLOADS_PIN_H_
