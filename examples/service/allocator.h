// SPDX-License-Identifier: Apache-2.0
//
// What the service can tell of the malloc that it runs on. allocator_hakmem.cc or allocator_libc.cc is linked in.
#ifndef KV_SERVICE_ALLOCATOR_H_
#define KV_SERVICE_ALLOCATOR_H_

#include <string>

#include "prometheus_text.h"

namespace kv {

// Its name and version, for the log.
std::string AllocatorName();

void WriteAllocatorMetrics(PrometheusText *out);

// The answer to GET /debug/pprof/heap.
struct HeapProfile {
  int status;  // of HTTP
  const char *content_type;
  std::string body;
};

HeapProfile TakeHeapProfile();

}  // namespace kv

#endif  // KV_SERVICE_ALLOCATOR_H_
