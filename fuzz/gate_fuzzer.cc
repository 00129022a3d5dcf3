// SPDX-License-Identifier: Apache-2.0
//
// The parsers of environment variables and of settings compiled in (hak_conf, //configs:conf) on any bytes, against
// naive parsers: they accept exactly what docs/ENV.md says, and refused items change nothing. The nearest right name of
// each name is the one that a naive search finds.
//
// An input is a number of lines. Each is tried as a value of every setting, and split as a text of settings. The
// "NAME=value" lines with an accepted value, and all lines that are no mistakes, make an environment. The accepted
// items of every second line make hak_conf, those of the others //configs:conf. Then the three are resolved. (Mistakes
// would be reported on stderr, and a target does not print.) Afterwards some lines are changes by the running program,
// whatever they are.
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "allocator/gate/conf.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "fuzz/exact_room.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace {

using hak_fuzz::Check;

// More lines find nothing new.
constexpr size_t kLinesMax = 64;

// Of how many names the nearest is looked for, which takes long.
constexpr size_t kNamesMax = 8;

// Copies with exactly the text's length, so that a sanitizer notices a read behind the end.
using Room = hak_fuzz::ExactRoom<char>;

char *Exact(std::string_view text, Room *room) {
  char *copy = room->Of(text.size() + 1);
  std::copy(text.begin(), text.end(), copy);
  copy[text.size()] = '\0';
  return copy;
}

// ---- Values -------------------------------------------------------------------------------------------

struct Parsed {
  bool good = false;
  uint64_t value = 0;
};

constexpr std::string_view kPrefix = "HAKMEM_";

// The table of settings in a form for quick comparisons.
struct GateTexts {
  std::string_view name;
  std::string_view short_name;  // without HAKMEM_
  std::string_view other_name;  // "" if there is none
  std::vector<std::string_view> choices;
  std::string least, most;
  bool is_switch;
  uint64_t kib_in_unit;  // of a size; 0 for others
  bool like_another;     // an earlier setting of the table accepts the same texts with the same values
};

std::array<GateTexts, HAK_GATE_COUNT> MakeGateTexts() {
  std::array<GateTexts, HAK_GATE_COUNT> texts;
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    const hak_gate &gate = hak_gates[id];
    texts[id].name = gate.name;
    Check(texts[id].name.substr(0, kPrefix.size()) == kPrefix, "a setting without the prefix");
    texts[id].short_name = texts[id].name.substr(kPrefix.size());
    for (uint64_t i = 0; gate.choices != nullptr && gate.choices[i] != nullptr; ++i) {
      texts[id].choices.emplace_back(gate.choices[i]);
    }
    // Two other names of presets, in addition to those of the table.
    if (id == HAK_GATE_PROFILE) {
      for (const char *other : {"MIXED_TINYV3_C7_BALANCED", "MIXED_TINYV3_C7_SAFE"})
        texts[id].choices.emplace_back(other);
    }
    if (id == HAK_GATE_PROFILE) texts[id].other_name = "HAKMEM_PRESET";
    texts[id].is_switch = texts[id].choices == std::vector<std::string_view>{"0", "1"};
    const std::string_view unit = gate.unit != nullptr ? gate.unit : "";
    texts[id].kib_in_unit = unit == "KiB" ? 1 : unit == "MiB" ? 1024 : 0;
    texts[id].least = std::to_string(gate.least);
    texts[id].most = std::to_string(gate.most);
    texts[id].like_another = std::any_of(texts.begin(), texts.begin() + id, [&](const GateTexts &before) {
      return before.choices == texts[id].choices && before.least == texts[id].least && before.most == texts[id].most &&
             before.kib_in_unit == texts[id].kib_in_unit;
    });
  }
  return texts;
}

const GateTexts &TextsOf(uint32_t id) {
  static const auto *texts = new std::array<GateTexts, HAK_GATE_COUNT>(MakeGateTexts());
  return (*texts)[id];
}

// The digits of a number without leading zeros; nothing if the text is not a number.
std::string_view NaiveDigits(std::string_view text) {
  if (text.empty() || std::any_of(text.begin(), text.end(), [](char c) { return c < '0' || c > '9'; })) return {};
  while (text.size() > 1 && text[0] == '0') text.remove_prefix(1);
  return text;
}

// Compares numbers as text, so that no arithmetic can overflow: without leading zeros the longer one is larger.
bool AtMost(std::string_view a, std::string_view b) { return a.size() != b.size() ? a.size() < b.size() : a <= b; }

char Capital(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

// Whether the text is `name`, which has capital letters, in upper or lower case.
bool SameName(std::string_view text, std::string_view name) {
  return text.size() == name.size() &&
         std::equal(text.begin(), text.end(), name.begin(), [](char a, char b) { return Capital(a) == b; });
}

// A size with a suffix.
Parsed NaiveSize(const GateTexts &gate, std::string_view text) {
  if (gate.kib_in_unit == 0 || text.empty()) return {};
  const std::string_view digits = NaiveDigits(text.substr(0, text.size() - 1));
  // No setting accepts a number of more than 15 digits.
  if (digits.empty() || digits.size() > 15) return {};
  const size_t power = std::string_view("KMGT").find(Capital(text.back()));
  if (power == std::string_view::npos) return {};
  unsigned __int128 kib = 0;
  for (const char c : digits) kib = kib * 10 + static_cast<unsigned>(c - '0');
  for (size_t i = 0; i < power; ++i) kib *= 1024;
  if (kib % gate.kib_in_unit != 0) return {};
  const unsigned __int128 value = kib / gate.kib_in_unit;
  if (value > std::stoull(gate.most) || value < std::stoull(gate.least)) return {};
  return {true, static_cast<uint64_t>(value)};
}

Parsed NaiveSwitch(std::string_view text) {
  for (const char *word : {"OFF", "FALSE", "NO"}) {
    if (SameName(text, word)) return {true, 0};
  }
  for (const char *word : {"ON", "TRUE", "YES"}) {
    if (SameName(text, word)) return {true, 1};
  }
  return {};
}

// `digits`: the digits of the text.
Parsed Naive(uint32_t id, std::string_view text, std::string_view digits) {
  const GateTexts &gate = TextsOf(id);
  if (hak_gates[id].choices != nullptr) {
    for (size_t i = 0; i < gate.choices.size(); ++i) {
      if (text.size() != gate.choices[i].size() || text != gate.choices[i]) continue;
      if (id == HAK_GATE_PROFILE && i >= HAK_PRESET_COUNT) {
        return {true, i == HAK_PRESET_COUNT ? uint64_t{HAK_PRESET_BALANCED} : uint64_t{HAK_PRESET_SPEED}};
      }
      return {true, i};
    }
    return gate.is_switch ? NaiveSwitch(text) : Parsed{};
  }
  if (digits.empty()) return NaiveSize(gate, text);
  if (!AtMost(gate.least, digits) || !AtMost(digits, gate.most)) return {};
  uint64_t value = 0;
  for (const char c : digits) value = value * 10 + static_cast<uint64_t>(c - '0');
  return {true, value};
}

Parsed Naive(uint32_t id, std::string_view text) { return Naive(id, text, NaiveDigits(text)); }

// `all`: checks each setting, and not only one of those that accept the same.
void CheckAsValue(std::string_view text, bool all) {
  static auto *room = new Room(4096);
  const char *copy = Exact(text, room);
  const std::string_view digits = NaiveDigits(text);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    if (TextsOf(id).like_another && !all) continue;
    constexpr uint64_t kUntouched = 0xDEFA017DEFA017;
    uint64_t value = kUntouched;
    const bool good = hak_gate_parse(&hak_gates[id], copy, &value);
    const Parsed naive = Naive(id, text, digits);
    Check(good == naive.good, "hak_gate_parse accepts something else than documented");
    Check(value == (good ? naive.value : kUntouched), good ? "another value" : "a refused text changed the value");
  }
}

// ---- Settings compiled in -----------------------------------------------------------------------------

// At most one value for each setting.
struct Wanted {
  Parsed gate[HAK_GATE_COUNT];
  bool any = false;

  void Set(uint32_t id, const Parsed &parsed) {
    gate[id] = parsed;
    any = true;
  }
};

// Takes the first item from the text; "": there is none.
std::string_view NaiveItem(std::string_view *text) {
  const auto separates = [](char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  const auto begin = std::find_if_not(text->begin(), text->end(), separates);
  const auto end = std::find_if(begin, text->end(), separates);
  const auto length = static_cast<size_t>(end - begin);
  text->remove_prefix(static_cast<size_t>(begin - text->begin()));
  const std::string_view item = text->substr(0, length);
  text->remove_prefix(length);
  return item;
}

// The setting with the name of an item, or HAK_GATE_COUNT.
uint32_t NaiveGate(std::string_view name) {
  uint32_t id = 0;
  while (id < HAK_GATE_COUNT && !SameName(name, TextsOf(id).name) && !SameName(name, TextsOf(id).short_name)) ++id;
  return id;
}

// The box must find the same items in the line as the naive parser. Adds the accepted ones to `text`. `all`: also
// checks for each setting that an item without a name does not name it.
void TakeItems(std::string_view line, bool all, std::string *text, Wanted *wanted) {
  static auto *room = new Room(4096);
  const char *copy = Exact(line, room);
  const char *rest = copy;
  std::string_view left = line;
  for (std::string_view item = NaiveItem(&left); !item.empty(); item = NaiveItem(&left)) {
    hak_conf_item got;
    Check(hak_conf_next(&rest, &got), "hak_conf_next misses an item");
    Check(std::string_view(got.text, got.length) == item, "hak_conf_next gives another item");
    const size_t equals = item.find('=');
    const bool has_name = equals != std::string_view::npos && equals != 0;
    const std::string_view value = has_name ? item.substr(equals + 1) : "";
    Check(got.is_pair == (has_name && value.size() <= HAK_CONF_VALUE_MAX), "is_pair");
    Check(!got.is_pair || value == got.value, "hak_conf_next gives another value");
    const uint32_t id = has_name ? NaiveGate(item.substr(0, equals)) : uint32_t{HAK_GATE_COUNT};
    for (uint32_t other = 0; other < HAK_GATE_COUNT && (has_name || all); ++other) {
      Check(hak_conf_names(&got, hak_gates[other].name) == (other == id), "hak_conf_names");
    }
    if (id == HAK_GATE_COUNT || !got.is_pair) continue;
    const Parsed parsed = Naive(id, value);
    if (!parsed.good || text->size() + item.size() + 1 > HAK_CONF_LENGTH_MAX) continue;
    wanted->Set(id, parsed);  // of two items with the same name the last counts
    text->append(item);
    text->push_back(',');
  }
  hak_conf_item none;
  Check(!hak_conf_next(&rest, &none), "hak_conf_next gives an item too many");
  Check(*rest == '\0', "hak_conf_next stops before the end");
  Check(hak_conf_too_long(copy) == (line.size() > HAK_CONF_LENGTH_MAX), "hak_conf_too_long");
}

// ---- Names that are nearly right --------------------------------------------------------------------------

// The edit distance of two texts of less than 64 bytes, with the whole table.
size_t NaiveDistance(std::string_view a, std::string_view b) {
  size_t table[64][64];
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        table[i][j] = i + j;
        continue;
      }
      const size_t replaced = table[i - 1][j - 1] + (Capital(a[i - 1]) != Capital(b[j - 1]) ? 1 : 0);
      table[i][j] = std::min(replaced, 1 + std::min(table[i - 1][j], table[i][j - 1]));
    }
  }
  return table[a.size()][b.size()];
}

void CheckNearest(std::string_view name) {
  static auto *room = new Room(4096);
  const char *got = hak_gate_nearest_name(Exact(name, room), name.size());
  std::string_view bare = name;
  if (SameName(bare.substr(0, kPrefix.size()), kPrefix)) bare.remove_prefix(kPrefix.size());
  std::string_view nearest;
  size_t least = SIZE_MAX;
  for (uint32_t id = 0; id < HAK_GATE_COUNT && bare.size() < 64; ++id) {
    for (const std::string_view right : {TextsOf(id).name, TextsOf(id).other_name}) {
      if (right.empty()) continue;
      const std::string_view bare_right = right.substr(kPrefix.size());
      const size_t distance = NaiveDistance(bare, bare_right);
      if (2 * distance > std::max(bare.size(), bare_right.size()) || distance >= least) continue;
      least = distance;
      nearest = right;
    }
  }
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT && bare.size() < 64; ++id) {
    const std::string_view bare_right = std::string_view(hak_gate_texts[id].name).substr(kPrefix.size());
    const size_t distance = NaiveDistance(bare, bare_right);
    if (2 * distance > std::max(bare.size(), bare_right.size()) || distance >= least) continue;
    least = distance;
    nearest = hak_gate_texts[id].name;
  }
  Check(nearest == (got != nullptr ? got : ""), "another name is nearer");
}

// ---- Everything together --------------------------------------------------------------------------------

// What an environment says of a setting under the other of its names, which counts if the first says nothing.
struct Others {
  Parsed gate[HAK_GATE_COUNT];
};

// Whether the line may be in the environment: not if it is a mistake.
bool TakeVariable(std::string_view line, Wanted *wanted, Others *others) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos) return true;
  const std::string_view name = line.substr(0, equals);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    const bool is_other = !TextsOf(id).other_name.empty() && name == TextsOf(id).other_name;
    if (!is_other && name != TextsOf(id).name) continue;
    const Parsed parsed = Naive(id, line.substr(equals + 1));
    Parsed *place = is_other ? &others->gate[id] : &wanted->gate[id];
    // Of two variables with the same name the first counts.
    if (parsed.good && !place->good) *place = parsed;
    wanted->any |= parsed.good;
    return parsed.good;
  }
  const auto begins = [name](std::string_view with) { return name.substr(0, with.size()) == with; };
  return !begins(kPrefix) || begins("HAKMEM_BENCH_") || begins("HAKMEM_TEST_");
}

// ---- Changes by the running program ---------------------------------------------------------------------

// Each different number takes memory that is never freed, so only a few are used.
constexpr uint64_t kNumbers = 64;

// The line as a change: the setting that it names exactly, if any, and the value; numbers are reduced to a few.
struct Change {
  uint32_t id = HAK_GATE_COUNT;
  std::string name, text;
  Parsed parsed;

  explicit Change(std::string_view line) {
    const size_t equals = std::min(line.find('='), line.size());
    name = line.substr(0, equals);
    text = equals < line.size() ? line.substr(equals + 1) : "";
    for (uint32_t each = 0; each < HAK_GATE_COUNT; ++each) {
      if (TextsOf(each).name == name || (!name.empty() && TextsOf(each).other_name == name)) id = each;
    }
    if (id == HAK_GATE_COUNT) return;
    parsed = Naive(id, text);
    if (!parsed.good || hak_gates[id].choices != nullptr) return;
    // A memory limit may be refused because the process uses more.
    text = std::to_string(id == HAK_GATE_MEMORY_LIMIT ? 0 : parsed.value % kNumbers);
    parsed = Naive(id, text);
  }
};

// `values`: the values at the start.
void CheckChanges(const std::vector<std::string_view> &lines, hak_gate_values values) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    if (hak_gates[id].choices == nullptr) values.value[id] %= kNumbers;
  }
  hak_gate_now_init(&values);
  for (const std::string_view line : lines) {
    const Change change(line);
    const bool known = change.id != HAK_GATE_COUNT && change.parsed.good;
    const bool may = known && !HAK_FAST && hak_gates[change.id].change == HAK_GATE_ANY_TIME;
    const int code = hak_gate_set(change.name.c_str(), change.text.c_str());
    Check(code == (may ? 0 : known ? EPERM : EINVAL), "hak_gate_set gives another code");
    if (!may) continue;
    values.value[change.id] = change.parsed.value;
    values.origin[change.id] = HAK_GATE_FROM_CALL;
    for (uint32_t id = 0; change.id == HAK_GATE_PROFILE && id < HAK_GATE_COUNT; ++id) {
      const bool asked = values.origin[id] != HAK_GATE_BUILT_IN && values.origin[id] != HAK_GATE_FROM_PRESET;
      if (asked || hak_gates[id].change != HAK_GATE_ANY_TIME) continue;
      const uint64_t *preset = hak_gates[id].preset;
      values.value[id] = preset[change.parsed.value];
      values.origin[id] = values.value[id] != preset[HAK_PRESET_BALANCED] ? HAK_GATE_FROM_PRESET : HAK_GATE_BUILT_IN;
    }
  }
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    const char *origin = nullptr;
    const char *text = hak_gate_get(hak_gates[id].name, &origin);
    const std::string wanted = hak_gates[id].choices != nullptr ? std::string(hak_gates[id].choices[values.value[id]])
                                                                : std::to_string(values.value[id]);
    Check(text != nullptr && wanted == text, "a changed setting has another value");
    Check(origin == hak_gate_origin_name(static_cast<hak_gate_origin>(values.origin[id])), "or another origin");
  }
}

// ---- The sources --------------------------------------------------------------------------------------

// `all`: also if nothing was accepted, so that the result must be the built-in values.
void CheckSources(const std::vector<std::string_view> &lines, bool all) {
  // In the order of precedence.
  Wanted wanted[3];
  constexpr hak_gate_origin kOrigins[] = {HAK_GATE_FROM_BUILD, HAK_GATE_FROM_PROGRAM, HAK_GATE_FROM_ENVIRONMENT};
  static auto *texts = new std::array<std::string, 2>;
  for (std::string &text : *texts) text.clear();
  for (size_t i = 0; i < lines.size(); ++i) TakeItems(lines[i], all, &(*texts)[i % 2], &wanted[i % 2]);
  static auto *environment = new std::vector<char *>;
  static auto *rooms = new std::vector<Room>;
  environment->clear();
  Others others;
  for (const std::string_view line : lines) {
    if (!TakeVariable(line, &wanted[2], &others)) continue;
    if (environment->size() == rooms->size()) rooms->emplace_back(512);
    environment->push_back(Exact(line, &(*rooms)[environment->size()]));
  }
  environment->push_back(nullptr);
  for (uint32_t id = 0; id < HAK_GATE_COUNT; ++id) {
    if (!wanted[2].gate[id].good) wanted[2].gate[id] = others.gate[id];
  }
  if (!all && !wanted[0].any && !wanted[1].any && !wanted[2].any) return;
  static auto *text_rooms = new std::array<Room, 2>{Room(HAK_CONF_LENGTH_MAX + 1), Room(HAK_CONF_LENGTH_MAX + 1)};
  const char *build = Exact((*texts)[0], &(*text_rooms)[0]);
  const char *program = Exact((*texts)[1], &(*text_rooms)[1]);
  const hak_gate_sources sources = {environment->data(), program, build, false};
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
    Check(values.value[id] == value, "a setting has another value");
    Check(values.origin[id] == origin, "a setting's value has another origin");
    if (id == HAK_GATE_PROFILE) preset = value;  // the first row of the table
  }
  if (wanted[2].any) CheckChanges(lines, values);  // some line is an accepted change
}

static_assert(HAK_GATE_PROFILE == 0, "its value is known before that of the others");

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static auto *lines = new std::vector<std::string_view>;
  lines->clear();
  std::string_view rest(reinterpret_cast<const char *>(data), size);
  while (lines->size() < kLinesMax) {
    // A string of the environment ends at its first NUL, so a NUL ends a line too.
    const auto end = std::find_if(rest.begin(), rest.end(), [](char c) { return c == '\n' || c == '\0'; });
    lines->push_back(rest.substr(0, static_cast<size_t>(end - rest.begin())));
    if (end == rest.end()) break;
    rest.remove_prefix(lines->back().size() + 1);
  }
  static auto *chosen = new hak_fuzz::OneIn(4);
  const bool all = chosen->Chooses(data, size);
  size_t names = 0;
  for (const std::string_view line : *lines) {
    CheckAsValue(line, all);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    CheckAsValue(line.substr(equals + 1), all);
    if (all && names++ < kNamesMax) CheckNearest(line.substr(0, equals));
  }
  CheckSources(*lines, all);
  return 0;
}
