// SPDX-License-Identifier: Apache-2.0
#include "prometheus_text.h"

#include <cstdio>

namespace kv {
namespace {

// Backslash and line feed are escaped everywhere, quotes in the values of labels.
std::string Escaped(const std::string &text, bool quotes) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\\\";
    } else if (c == '\n') {
      escaped += "\\n";
    } else if (c == '"' && quotes) {
      escaped += "\\\"";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace

void PrometheusText::Family(const std::string &name, const char *type, const std::string &help) {
  name_ = name;
  text_ += "# HELP " + name + " " + Escaped(help, false) + "\n# TYPE " + name + " " + type + "\n";
}

void PrometheusText::Line(const char *suffix, const Labels &labels, const std::string &value) {
  text_ += name_ + suffix;
  char before = '{';
  for (const auto &[label, content] : labels) {
    text_ += before + label + "=\"" + Escaped(content, true) + "\"";
    before = ',';
  }
  if (!labels.empty()) text_ += '}';
  text_ += ' ' + value + '\n';
}

void PrometheusText::Sample(const char *suffix, const Labels &labels, uint64_t value) {
  Line(suffix, labels, std::to_string(value));
}

void PrometheusText::Sample(const char *suffix, const Labels &labels, double value) {
  char text[40];
  snprintf(text, sizeof text, "%.9g", value);
  Line(suffix, labels, text);
}

void PrometheusText::Counter(const std::string &name, const std::string &help, uint64_t value) {
  Family(name, "counter", help);
  Sample("", {}, value);
}

void PrometheusText::Gauge(const std::string &name, const std::string &help, uint64_t value) {
  Family(name, "gauge", help);
  Sample("", {}, value);
}

}  // namespace kv
