// SPDX-License-Identifier: Apache-2.0
//
// The parser of environment variables on any bytes, against a naive one: it accepts what docs/ENV.md says and nothing
// else, and what it refuses changes nothing.
//
// An input is a number of lines. Each is tried as a value of every gate; "NAME=value" lines whose value its gate
// accepts, and all lines that name no gate, make an environment, which is resolved then. (Refused values would be
// reported on stderr, and a target does not print.)
#include <string.h>

#include <memory>
#include <string>
#include <vector>

#include "allocator/gate/gate.h"
#include "fuzz/fuzz_target.h"

namespace {

using hak_fuzz::Check;

// More lines than that bring nothing new.
constexpr size_t kLinesMax = 64;

struct Parsed {
  bool good = false;
  uint64_t value = 0;
};

Parsed Naive(const hak_gate &gate, const std::string &text) {
  if (gate.choices != nullptr) {
    for (uint64_t i = 0; gate.choices[i] != nullptr; ++i) {
      if (text == gate.choices[i]) return {true, i};
    }
    if (&gate == &hak_gates[HAK_GATE_PROFILE]) {
      if (text == "MIXED_TINYV3_C7_BALANCED") return {true, HAK_PRESET_BALANCED};
      if (text == "MIXED_TINYV3_C7_SAFE") return {true, HAK_PRESET_SPEED};
    }
    return {};
  }
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return {};
  // As text, so that no arithmetic can overflow: without leading zeros the longer number is the larger.
  const size_t first = text.find_first_not_of('0');
  const std::string digits = first == std::string::npos ? "0" : text.substr(first);
  const auto at_most = [](const std::string &a, const std::string &b) {
    return a.size() != b.size() ? a.size() < b.size() : a <= b;
  };
  if (!at_most(std::to_string(gate.least), digits) || !at_most(digits, std::to_string(gate.most))) return {};
  return {true, std::stoull(digits)};
}

// A copy of exactly the text's length, so that a sanitizer sees a read behind its end.
std::unique_ptr<char[]> Exact(const std::string &text) {
  auto copy = std::make_unique<char[]>(text.size() + 1);
  memcpy(copy.get(), text.c_str(), text.size() + 1);
  return copy;
}

void CheckValue(const hak_gate &gate, const std::string &text, const char *copy) {
  constexpr uint64_t kUntouched = 0xDEFA017DEFA017;
  uint64_t value = kUntouched;
  const bool good = hak_gate_parse(&gate, copy, &value);
  const Parsed naive = Naive(gate, text);
  Check(good == naive.good, "hak_gate_parse accepts something else than documented");
  Check(value == (good ? naive.value : kUntouched), good ? "another value" : "a refused text changed the value");
}

void CheckAsValue(const std::string &text) {
  const std::unique_ptr<char[]> copy = Exact(text);
  for (const hak_gate &gate : hak_gates) CheckValue(gate, text, copy.get());
}

void CheckEnvironment(const std::vector<std::string> &lines) {
  Parsed wanted[HAK_GATE_COUNT];
  std::vector<std::unique_ptr<char[]>> copies;
  for (const std::string &line : lines) {
    bool keep = true;
    for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
      const std::string prefix = std::string(hak_gates[id].name) + "=";
      if (line.compare(0, prefix.size(), prefix) != 0) continue;
      const Parsed parsed = Naive(hak_gates[id], line.substr(prefix.size()));
      keep = parsed.good;
      // Of two variables of one name the first counts.
      if (parsed.good && !wanted[id].good) wanted[id] = parsed;
    }
    if (keep) copies.push_back(Exact(line));
  }
  std::vector<char *> environment;
  for (const auto &copy : copies) environment.push_back(copy.get());
  environment.push_back(nullptr);
  hak_gate_values values;
  memset(&values, 0xA5, sizeof values);
  hak_gate_resolve(environment.data(), &values);
  // Balanced, number 0, when none is wanted.
  const uint64_t preset = wanted[HAK_GATE_PROFILE].value;
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    const uint64_t by_preset = hak_gates[id].preset[id == HAK_GATE_PROFILE ? 0 : preset];
    Check(values.value[id] == (wanted[id].good ? wanted[id].value : by_preset), "a gate has another value");
    Check((values.origin[id] == HAK_GATE_FROM_ENVIRONMENT) == wanted[id].good, "a gate's value has another origin");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::vector<std::string> lines(1);
  for (size_t i = 0; i < size && lines.size() <= kLinesMax; ++i) {
    const char c = static_cast<char>(data[i]);
    // A text of the environment ends at its first NUL, so that ends a line too.
    if (c == '\n' || c == '\0') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  for (const std::string &line : lines) {
    CheckAsValue(line);
    const size_t equals = line.find('=');
    if (equals != std::string::npos) CheckAsValue(line.substr(equals + 1));
  }
  CheckEnvironment(lines);
  return 0;
}
