// SPDX-License-Identifier: Apache-2.0
#include <hakmem/hakmem.h>

#include "allocator.h"

namespace kv {

std::string AllocatorName() { return std::string("hakmem ") + hak_version(); }

void WriteAllocatorMetrics(PrometheusText *out) {
  std::string text(HAK_STATS_TEXT_BYTES, '\0');
  text.resize(hak_stats_prometheus(&text[0], text.size()));
  out->Families(text);
}

HeapProfile TakeHeapProfile() {
  return {501, "text/plain; charset=utf-8", std::string("hakmem ") + hak_version() + " has no heap profiler\n"};
}

}  // namespace kv
