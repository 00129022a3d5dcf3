// SPDX-License-Identifier: Apache-2.0
//
// The service's counts of requests, and values of its process.
#ifndef KV_SERVICE_METRICS_H_
#define KV_SERVICE_METRICS_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "prometheus_text.h"

namespace kv {

// Thread-safe. All counters are relaxed: they publish no other data.
class RequestMetrics {
 public:
  void Count(const std::string &method, int status, std::chrono::nanoseconds duration);
  void Write(PrometheusText *out) const;

 private:
  static constexpr std::array<const char *, 5> kMethods = {"GET", "PUT", "DELETE", "HEAD", "other"};
  static constexpr size_t kStatuses = 600;
  static constexpr std::array<double, 16> kBounds = {0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                                     0.01,    0.025,   0.05,   0.1,     0.25,   0.5,   1,      2.5};

  std::array<std::array<std::atomic<uint64_t>, kStatuses>, kMethods.size()> requests_ = {};
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> buckets_ = {};  // not cumulative
  std::atomic<uint64_t> nanoseconds_ = 0;
};

// Resident memory and its peak, processor time, threads, and start, from /proc.
void WriteProcessMetrics(PrometheusText *out);

}  // namespace kv

#endif  // KV_SERVICE_METRICS_H_
