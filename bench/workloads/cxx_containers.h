// SPDX-License-Identifier: Apache-2.0
//
// The part of the workload cpp_containers that is C++.
#ifndef HAKMEM_BENCH_WORKLOADS_CXX_CONTAINERS_H_
#define HAKMEM_BENCH_WORKLOADS_CXX_CONTAINERS_H_

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Fills containers with `count` elements, changes them, and empties them. False: they do not hold what they must.
bool cxx_containers_round(uint64_t seed, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif  // HAKMEM_BENCH_WORKLOADS_CXX_CONTAINERS_H_
