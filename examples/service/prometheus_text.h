// SPDX-License-Identifier: Apache-2.0
//
// Writes the Prometheus text exposition format, version 0.0.4.
#ifndef KV_SERVICE_PROMETHEUS_TEXT_H_
#define KV_SERVICE_PROMETHEUS_TEXT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kv {

class PrometheusText {
 public:
  static constexpr const char *kContentType = "text/plain; version=0.0.4; charset=utf-8";

  using Labels = std::vector<std::pair<std::string, std::string>>;

  // Begins a family: `type` is counter, gauge or histogram. Its samples follow at once.
  void Family(const std::string &name, const char *type, const std::string &help);
  // A sample of the latest family. `suffix` is empty, or _bucket, _sum or _count for a histogram.
  void Sample(const char *suffix, const Labels &labels, uint64_t value);
  void Sample(const char *suffix, const Labels &labels, double value);

  // A family of one sample without labels.
  void Counter(const std::string &name, const std::string &help, uint64_t value);
  void Gauge(const std::string &name, const std::string &help, uint64_t value);

  // Families that are written already.
  void Families(const std::string &text) { text_ += text; }

  const std::string &text() const { return text_; }

 private:
  void Line(const char *suffix, const Labels &labels, const std::string &value);

  std::string name_;
  std::string text_;
};

}  // namespace kv

#endif  // KV_SERVICE_PROMETHEUS_TEXT_H_
