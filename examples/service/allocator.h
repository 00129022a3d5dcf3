// SPDX-License-Identifier: Apache-2.0
//
// What the service reports of its malloc. Either allocator_hakmem.cc or allocator_libc.cc is linked.
#ifndef KV_SERVICE_ALLOCATOR_H_
#define KV_SERVICE_ALLOCATOR_H_

#include <string>

#include "prometheus_text.h"

namespace kv {

// The name and version of the allocator, for the log.
std::string AllocatorName();

void WriteAllocatorMetrics(PrometheusText *out);

// The answer to GET /debug/pprof/heap and /debug/pprof/allocs.
struct HeapProfile {
  int status;  // of HTTP
  const char *content_type;
  std::string body;
};

HeapProfile TakeHeapProfile();

// Later profiles say what has grown since this moment. False: this allocator has none.
bool MarkHeapProfile();

}  // namespace kv

#endif  // KV_SERVICE_ALLOCATOR_H_
