// SPDX-License-Identifier: Apache-2.0
//
// The results of a load run.
#ifndef KV_SERVICE_LOAD_REPORT_H_
#define KV_SERVICE_LOAD_REPORT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kv {

// Durations in nanoseconds, in buckets that are at most 1/32 of their value wide. The largest is exact.
class LatencyHistogram {
 public:
  void Add(uint64_t nanoseconds);
  void Merge(const LatencyHistogram &other);

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  // The value that the share `quantile` (0 to 1) of all durations does not exceed: the upper end of its bucket, at most
  // the largest. 0 if nothing was added.
  uint64_t Quantile(double quantile) const;

 private:
  static constexpr unsigned kBits = 5;
  static constexpr size_t kSteps = size_t{1} << kBits;

  static size_t BucketOf(uint64_t value);
  static uint64_t UpperEnd(size_t bucket);

  std::array<uint64_t, (64 - kBits + 1) * kSteps> counts_ = {};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

// The results of one connection, or of all.
struct LoadReport {
  LatencyHistogram latency;
  uint64_t errors = 0;  // requests that failed, or were answered with another status or other bytes than expected
  std::string first_error;
  double seconds = 0;         // measured
  double server_seconds = 0;  // processor time of the server in that time

  // The server's resident memory in bytes, as the server reports it.
  uint64_t rss_peak = 0;     // since its start
  uint64_t rss_end = 0;      // at the end of the load
  uint64_t rss_settled = 0;  // some time later, after all keys were deleted if the plan says so
  uint64_t settle_seconds = 0;
  bool cleared = false;
};

// For people, and as one JSON object on one line.
std::string ReportText(const LoadReport &report);
std::string ReportJson(const LoadReport &report);

}  // namespace kv

#endif  // KV_SERVICE_LOAD_REPORT_H_
