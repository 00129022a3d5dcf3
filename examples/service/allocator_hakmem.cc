// SPDX-License-Identifier: Apache-2.0
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>
#include <string.h>

#include "allocator.h"

namespace kv {

std::string AllocatorName() { return std::string("hakmem ") + hak_version(); }

void WriteAllocatorMetrics(PrometheusText *out) {
  std::string text(HAK_STATS_TEXT_BYTES, '\0');
  text.resize(hak_stats_prometheus(&text[0], text.size()));
  out->Families(text);
}

// In pprof's format. Without HAKMEM_PROF=1 there are no samples in it.
HeapProfile TakeHeapProfile() {
  const auto append = [](void *body, const void *bytes, size_t size) {
    static_cast<std::string *>(body)->append(static_cast<const char *>(bytes), size);
    return 0;
  };
  std::string body;
  const int error = hak_prof_write(append, &body);
  if (error == 0) return {200, "application/octet-stream", body};
  return {503, "text/plain; charset=utf-8", std::string("no heap profile: ") + strerror(error) + "\n"};
}

bool MarkHeapProfile() { return hak_prof_mark() == 0; }

}  // namespace kv
