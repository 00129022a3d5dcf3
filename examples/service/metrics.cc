// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kv {

void RequestMetrics::Count(const std::string &method, int status, std::chrono::nanoseconds duration) {
  size_t m = 0;
  while (m + 1 < kMethods.size() && method != kMethods[m]) m++;
  const size_t s = status >= 100 && status < static_cast<int>(kStatuses) ? static_cast<size_t>(status) : 0;
  requests_[m][s].fetch_add(1, std::memory_order_relaxed);
  const double seconds = std::chrono::duration<double>(duration).count();
  const auto bucket = static_cast<size_t>(std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin());
  buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
  nanoseconds_.fetch_add(static_cast<uint64_t>(duration.count()), std::memory_order_relaxed);
}

void RequestMetrics::Write(PrometheusText *out) const {
  out->Family("kv_http_requests_total", "counter", "Requests answered, by method and status.");
  for (size_t m = 0; m < kMethods.size(); m++) {
    for (size_t s = 0; s < kStatuses; s++) {
      const uint64_t count = requests_[m][s].load(std::memory_order_relaxed);
      if (count != 0) out->Sample("", {{"method", kMethods[m]}, {"code", std::to_string(s)}}, count);
    }
  }
  out->Family("kv_http_request_duration_seconds", "histogram", "Time from a request's headers to its last byte sent.");
  uint64_t count = 0;
  for (size_t i = 0; i < kBounds.size(); i++) {
    count += buckets_[i].load(std::memory_order_relaxed);
    char bound[40];
    snprintf(bound, sizeof bound, "%.9g", kBounds[i]);
    out->Sample("_bucket", {{"le", bound}}, count);
  }
  count += buckets_[kBounds.size()].load(std::memory_order_relaxed);
  out->Sample("_bucket", {{"le", "+Inf"}}, count);
  out->Sample("_sum", {}, static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) * 1e-9);
  out->Sample("_count", {}, count);
}

namespace {

// The number after "NAME:" in /proc/self/status; 0 if there is none.
uint64_t StatusValue(const char *name) {
  FILE *const file = fopen("/proc/self/status", "re");
  if (file == nullptr) return 0;
  uint64_t value = 0;
  char line[256];
  while (fgets(line, sizeof line, file) != nullptr) {
    const size_t length = strlen(name);
    if (strncmp(line, name, length) == 0 && line[length] == ':') value = strtoull(line + length + 1, nullptr, 10);
  }
  fclose(file);
  return value;
}

double ProcessorSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval &time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Set when the program is loaded.
const double g_start = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();

}  // namespace

void WriteProcessMetrics(PrometheusText *out) {
  // The kernel adds up the counts of its processors only from time to time, so the peak may lag behind.
  const uint64_t resident = StatusValue("VmRSS");
  const uint64_t peak = std::max(StatusValue("VmHWM"), resident);
  out->Gauge("process_resident_memory_bytes", "Resident memory.", resident * 1024);
  out->Gauge("process_resident_memory_max_bytes", "The most that resident memory has been.", peak * 1024);
  out->Gauge("process_threads", "Threads.", StatusValue("Threads"));
  out->Family("process_cpu_seconds_total", "counter", "Processor time, user and system.");
  out->Sample("", {}, ProcessorSeconds());
  out->Family("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970-01-01 UTC.");
  out->Sample("", {}, static_cast<uint64_t>(g_start));
}

}  // namespace kv
