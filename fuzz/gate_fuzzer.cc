// SPDX-License-Identifier: Apache-2.0
//
// The parsers of environment variables and of settings compiled in (hak_conf, //configs:conf) on any bytes, against
// naive ones: they accept what docs/ENV.md says and nothing else, and what they refuse changes nothing.
//
// An input is a number of lines. Each is tried as a value of every gate, and taken apart as a text of settings;
// "NAME=value" lines whose value its gate accepts, and all lines that name no gate, make an environment. The accepted
// items of every second line make hak_conf, those of the others //configs:conf. The three are resolved then. (What is
// refused would be reported on stderr, and a target does not print.)
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "allocator/gate/conf.h"
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

// ---- Settings compiled in -----------------------------------------------------------------------------

// One value for each gate, where one is wanted.
struct Wanted {
  Parsed gate[HAK_GATE_COUNT];
};

std::string Capitals(std::string text) {
  for (char &c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return text;
}

std::vector<std::string> NaiveItems(const std::string &text) {
  std::vector<std::string> items;
  size_t begin = 0;
  while ((begin = text.find_first_not_of(", \t\n\r", begin)) != std::string::npos) {
    const size_t end = std::min(text.find_first_of(", \t\n\r", begin), text.size());
    items.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return items;
}

// The gate that the item names, or HAK_GATE_COUNT.
uint32_t NaiveGate(const std::string &item) {
  const size_t equals = item.find('=');
  const std::string name = equals == std::string::npos ? "" : Capitals(item.substr(0, equals));
  uint32_t id = 0;
  while (id < HAK_GATE_COUNT && name != hak_gates[id].name && "HAKMEM_" + name != hak_gates[id].name) ++id;
  return id;
}

// The items of the line as the box finds them must be the naive ones. Adds those that are accepted to `text`.
void TakeItems(const std::string &line, std::string *text, Wanted *wanted) {
  const std::unique_ptr<char[]> copy = Exact(line);
  const char *rest = copy.get();
  for (const std::string &item : NaiveItems(line)) {
    hak_conf_item got;
    Check(hak_conf_next(&rest, &got), "hak_conf_next misses an item");
    Check(std::string(got.text, got.length) == item, "hak_conf_next gives another item");
    const size_t equals = item.find('=');
    const bool has_name = equals != std::string::npos && equals != 0;
    const std::string value = has_name ? item.substr(equals + 1) : "";
    Check(got.is_pair == (has_name && value.size() <= HAK_CONF_VALUE_MAX), "is_pair");
    Check(!got.is_pair || value == got.value, "hak_conf_next gives another value");
    const uint32_t id = NaiveGate(item);
    for (uint32_t other = 0; other < HAK_GATE_COUNT; ++other) {
      Check(hak_conf_names(&got, hak_gates[other].name) == (other == id), "hak_conf_names");
    }
    if (id == HAK_GATE_COUNT || !got.is_pair || !Naive(hak_gates[id], value).good) continue;
    if (text->size() + item.size() + 1 > HAK_CONF_LENGTH_MAX) continue;
    wanted->gate[id] = Naive(hak_gates[id], value);  // of two items with one name the last counts
    *text += item + ",";
  }
  hak_conf_item none;
  Check(!hak_conf_next(&rest, &none), "hak_conf_next gives an item too many");
  Check(*rest == '\0', "hak_conf_next stops before the end");
  Check(hak_conf_too_long(copy.get()) == (line.size() > HAK_CONF_LENGTH_MAX), "hak_conf_too_long");
}

// ---- Everything together --------------------------------------------------------------------------------

// The variables of the lines, but for those with values that are not accepted.
std::vector<std::unique_ptr<char[]>> Variables(const std::vector<std::string> &lines, Wanted *wanted) {
  std::vector<std::unique_ptr<char[]>> copies;
  for (const std::string &line : lines) {
    bool keep = true;
    for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
      const std::string prefix = std::string(hak_gates[id].name) + "=";
      if (line.compare(0, prefix.size(), prefix) != 0) continue;
      const Parsed parsed = Naive(hak_gates[id], line.substr(prefix.size()));
      keep = parsed.good;
      // Of two variables of one name the first counts.
      if (parsed.good && !wanted->gate[id].good) wanted->gate[id] = parsed;
    }
    if (keep) copies.push_back(Exact(line));
  }
  return copies;
}

void CheckSources(const std::vector<std::string> &lines) {
  // By precedence.
  Wanted wanted[3];
  constexpr hak_gate_origin kOrigins[] = {HAK_GATE_FROM_BUILD, HAK_GATE_FROM_PROGRAM, HAK_GATE_FROM_ENVIRONMENT};
  std::string texts[2];
  for (size_t i = 0; i < lines.size(); ++i) TakeItems(lines[i], &texts[i % 2], &wanted[i % 2]);
  const std::vector<std::unique_ptr<char[]>> copies = Variables(lines, &wanted[2]);
  std::vector<char *> environment;
  for (const auto &copy : copies) environment.push_back(copy.get());
  environment.push_back(nullptr);
  const std::unique_ptr<char[]> build = Exact(texts[0]), program = Exact(texts[1]);
  const hak_gate_sources sources = {environment.data(), program.get(), build.get()};
  hak_gate_values values;
  memset(&values, 0xA5, sizeof values);
  hak_gate_resolve(&sources, &values);
  uint64_t preset = HAK_PRESET_BALANCED;
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    uint64_t value = hak_gates[id].preset[preset];
    uint32_t origin = value != hak_gates[id].preset[HAK_PRESET_BALANCED] ? HAK_GATE_FROM_PRESET : HAK_GATE_BUILT_IN;
    for (size_t source = 0; source < 3; ++source) {
      if (!wanted[source].gate[id].good) continue;
      value = wanted[source].gate[id].value;
      origin = kOrigins[source];
    }
    Check(values.value[id] == value, "a gate has another value");
    Check(values.origin[id] == origin, "a gate's value has another origin");
    if (id == HAK_GATE_PROFILE) preset = value;  // the first of the table
  }
}

static_assert(HAK_GATE_PROFILE == 0, "its value is known before that of the others");

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
  CheckSources(lines);
  return 0;
}
