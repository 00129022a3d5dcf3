// SPDX-License-Identifier: Apache-2.0
#include "load_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace kv {

size_t LatencyHistogram::BucketOf(uint64_t value) {
  if (value < kSteps) return static_cast<size_t>(value);
  const auto exponent = static_cast<unsigned>(63 - __builtin_clzll(value));
  const unsigned shift = exponent - kBits;
  return (static_cast<size_t>(shift) + 1) * kSteps + static_cast<size_t>((value >> shift) - kSteps);
}

uint64_t LatencyHistogram::UpperEnd(size_t bucket) {
  if (bucket < kSteps) return bucket;
  const size_t shift = bucket / kSteps - 1;
  return ((bucket % kSteps + kSteps + 1) << shift) - 1;
}

void LatencyHistogram::Add(uint64_t nanoseconds) {
  counts_[BucketOf(nanoseconds)]++;
  count_++;
  max_ = std::max(max_, nanoseconds);
}

void LatencyHistogram::Merge(const LatencyHistogram &other) {
  for (size_t i = 0; i < counts_.size(); i++) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

uint64_t LatencyHistogram::Quantile(double quantile) const {
  const auto rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(quantile * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); i++) {
    seen += counts_[i];
    if (seen >= rank) return std::min(UpperEnd(i), max_);
  }
  return max_;
}

namespace {

constexpr double kMega = 1 << 20;

double Throughput(const LoadReport &report) {
  return report.seconds > 0 ? static_cast<double>(report.latency.count()) / report.seconds : 0;
}

// The server's processor time in microseconds for each request.
double ProcessorTime(const LoadReport &report) {
  const uint64_t count = report.latency.count();
  return count > 0 ? report.server_seconds * 1e6 / static_cast<double>(count) : 0;
}

double Microseconds(uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; }

}  // namespace

std::string ReportText(const LoadReport &report) {
  char text[600];
  const LatencyHistogram &latency = report.latency;
  snprintf(text, sizeof text,
           "requests        %llu in %.2f s, %llu errors\n"
           "throughput      %.0f requests/s, %.1f us of the server's processor time each\n"
           "latency         p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n"
           "server's RSS    peak %.1f MiB, at the end %.1f MiB, %llu s later%s %.1f MiB\n",
           static_cast<unsigned long long>(latency.count()), report.seconds,
           static_cast<unsigned long long>(report.errors), Throughput(report), ProcessorTime(report),
           Microseconds(latency.Quantile(0.5)), Microseconds(latency.Quantile(0.99)),
           Microseconds(latency.Quantile(0.999)), Microseconds(latency.max()),
           static_cast<double>(report.rss_peak) / kMega, static_cast<double>(report.rss_end) / kMega,
           static_cast<unsigned long long>(report.settle_seconds), report.cleared ? ", without keys," : "",
           static_cast<double>(report.rss_settled) / kMega);
  return text;
}

std::string ReportJson(const LoadReport &report) {
  char text[600];
  const LatencyHistogram &latency = report.latency;
  snprintf(text, sizeof text,
           "{\"requests\": %llu, \"errors\": %llu, \"seconds\": %.3f, \"requests_per_second\": %.1f, "
           "\"cpu_us_per_request\": %.2f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"rss_peak_bytes\": %llu, \"rss_end_bytes\": %llu, "
           "\"rss_settled_bytes\": %llu}\n",
           static_cast<unsigned long long>(latency.count()), static_cast<unsigned long long>(report.errors),
           report.seconds, Throughput(report), ProcessorTime(report), Microseconds(latency.Quantile(0.5)),
           Microseconds(latency.Quantile(0.99)), Microseconds(latency.Quantile(0.999)), Microseconds(latency.max()),
           static_cast<unsigned long long>(report.rss_peak), static_cast<unsigned long long>(report.rss_end),
           static_cast<unsigned long long>(report.rss_settled));
  return text;
}

}  // namespace kv
