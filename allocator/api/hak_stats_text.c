// SPDX-License-Identifier: Apache-2.0
//
// The statistics as text. In a file of their own, so that a program that is linked with the archive has them only if it
// calls them.
#include <hakmem/hakmem.h>

#include "allocator/gate/gate.h"
#include "allocator/observe/statistics_json.h"
#include "allocator/observe/statistics_prometheus.h"

size_t hak_stats_json(char *buffer, size_t size) { return hak_statistics_json(buffer, size, hak_gate_build_name()); }

size_t hak_stats_prometheus(char *buffer, size_t size) {
  return hak_statistics_prometheus(buffer, size, hak_gate_build_name());
}
