// SPDX-License-Identifier: Apache-2.0
//
// The table of settings, and the texts of names and values.
#include "allocator/gate/gate_row.h"

#include "allocator/gate/edit_distance.h"
#include "allocator/os/bytes.h"

static_assert(HAK_DECOMMIT_OFF == 0 && HAK_DECOMMIT_FREE == 1 && HAK_DECOMMIT_DONTNEED == 2, "order of the names");
static_assert(HAK_HUGE_PAGES_AUTO == 0 && HAK_HUGE_PAGES_ON == 1 && HAK_HUGE_PAGES_OFF == 2, "order of the names");
static_assert(HAK_DUMP_SIGNAL_OFF == 0 && HAK_DUMP_SIGNAL_HUP == 1 && HAK_DUMP_SIGNAL_QUIT == 2 &&
                  HAK_DUMP_SIGNAL_USR1 == 3 && HAK_DUMP_SIGNAL_USR2 == 4 && HAK_DUMP_SIGNAL_PROF == 5 &&
                  HAK_DUMP_SIGNAL_URG == 6,
              "order of the names");
static_assert(HAK_REPORT_LINE == 0 && HAK_REPORT_FULL == 1, "order of the names");
static_assert(HAK_MISMATCH_AUTO == 0 && HAK_MISMATCH_OFF == 1 && HAK_MISMATCH_WARN == 2 && HAK_MISMATCH_FATAL == 3,
              "order of the names");
static_assert(HAK_SLAB_MAP_AUTO == 0 && HAK_SLAB_MAP_FLAT == 1 && HAK_SLAB_MAP_TWO_LEVEL == 2, "order of the names");

const struct hak_gate hak_gates[HAK_GATE_COUNT] = {
#define HAK_CHOICES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define HAK_GATE_CHOICE(id, field, type, name_, choices_, balanced_, speed_, lean_, rooms_, change_, works_, text_) \
  [HAK_GATE_##id] = {.name = (name_),                                                                               \
                     .choices = (choices_),                                                                         \
                     .is_switch = _Generic((type)0, bool: true, default: false),                                    \
                     .preset = {(balanced_), (speed_), (lean_)},                                                    \
                     .rooms = (rooms_),                                                                             \
                     .change = (change_),                                                                           \
                     .works = (works_),                                                                             \
                     .text = (text_)},
#define HAK_GATE_NUMBER(id, field, name_, least_, most_, unit_, balanced_, speed_, lean_, rooms_, change_, works_, \
                        text_)                                                                                     \
  [HAK_GATE_##id] = {.name = (name_),                                                                              \
                     .least = (least_),                                                                            \
                     .most = (most_),                                                                              \
                     .unit = (unit_),                                                                              \
                     .preset = {(balanced_), (speed_), (lean_)},                                                   \
                     .rooms = (rooms_),                                                                            \
                     .change = (change_),                                                                          \
                     .works = (works_),                                                                            \
                     .text = (text_)},
#include "allocator/policy/gate_table.inc"
#undef HAK_CHOICES
};

const struct hak_gate_text hak_gate_texts[HAK_GATE_TEXT_COUNT] = {
#define HAK_GATE_TEXT(id, name_, value_, rooms_, works_, text_) \
  [HAK_GATE_TEXT_##id] = {.name = (name_), .value = (value_), .rooms = (rooms_), .works = (works_), .text = (text_)},
#include "allocator/policy/gate_table.inc"
};

// Whether the text is `word`, which has small letters, in upper or lower case. ASCII only: the C library's function
// depends on the locale.
static bool is_word(const char *text, const char *word) {
  for (; *word != '\0'; text++, word++) {
    const char small = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
    if (small != *word) return false;
  }
  return *text == '\0';
}

// ---- Names --------------------------------------------------------------------------------------

const char *hak_gate_other_name(uint32_t id) { return id == HAK_GATE_PROFILE ? "HAKMEM_PRESET" : NULL; }

uint32_t hak_gate_named(const char *name) {
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    const char *other = hak_gate_other_name(id);
    if (hak_text_is(hak_gates[id].name, name) || (other != NULL && hak_text_is(other, name))) return id;
  }
  return HAK_GATE_COUNT;
}

struct nearest {
  const char *name;  // NULL: none yet
  uint32_t distance;
};

// Takes the name if it is nearer to the text, which has no prefix. More than half of the longer one wrong is no
// misspelling.
static void take_if_nearer(struct nearest *nearest, const char *name, const char *text, size_t length) {
  const char *bare = name + sizeof HAK_GATE_PREFIX - 1;
  const size_t bare_length = hak_text_length(bare);
  const size_t longer = length > bare_length ? length : bare_length;
  const uint32_t distance = hak_edit_distance(text, length, bare, bare_length);
  if (distance > longer / 2 || (nearest->name != NULL && distance >= nearest->distance)) return;
  *nearest = (struct nearest){.name = name, .distance = distance};
}

const char *hak_gate_nearest_name(const char *text, size_t length) {
  const size_t skipped = sizeof HAK_GATE_PREFIX - 1;
  if (length >= skipped && hak_edit_distance(text, skipped, HAK_GATE_PREFIX, skipped) == 0) {
    text += skipped;
    length -= skipped;
  }
  struct nearest nearest = {.name = NULL};
  for (uint32_t id = 0; id < HAK_GATE_COUNT; id++) {
    take_if_nearer(&nearest, hak_gates[id].name, text, length);
    if (hak_gate_other_name(id) != NULL) take_if_nearer(&nearest, hak_gate_other_name(id), text, length);
  }
  for (uint32_t id = 0; id < HAK_GATE_TEXT_COUNT; id++) take_if_nearer(&nearest, hak_gate_texts[id].name, text, length);
  return nearest.name;
}

// ---- Values -------------------------------------------------------------------------------------

// Other names of choices.
static const struct {
  enum hak_gate_id gate;
  const char *name;
  uint64_t value;
} aliases[] = {
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_BALANCED", HAK_PRESET_BALANCED},
    {HAK_GATE_PROFILE, "MIXED_TINYV3_C7_SAFE", HAK_PRESET_SPEED},
};

// Other names of a switch's 0 and 1, in turn.
static const char *const switch_words[] = {"off", "on", "false", "true", "no", "yes"};

uint64_t hak_gate_scale(const struct hak_gate *gate) {
  if (gate->unit == NULL) return 1;
  if (hak_text_is(gate->unit, "KiB")) return 1024;
  return hak_text_is(gate->unit, "MiB") ? 1024 * 1024 : 1;
}

// The bytes that the suffix of a size stands for, or 0.
static uint64_t suffix_bytes(const char *suffix) {
  static const char *const suffixes[] = {"k", "m", "g", "t"};
  for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
    if (is_word(suffix, suffixes[i])) return UINT64_C(1024) << (10 * i);
  }
  return 0;
}

// `scale`: see hak_gate_scale.
static bool parse_number(const char *text, uint64_t scale, uint64_t *value) {
  if (*text < '0' || *text > '9') return false;
  uint64_t number = 0;
  for (; *text >= '0' && *text <= '9'; text++) {
    if (__builtin_mul_overflow(number, 10, &number)) return false;
    if (__builtin_add_overflow(number, (uint64_t)(*text - '0'), &number)) return false;
  }
  if (*text != '\0') {
    const uint64_t bytes = suffix_bytes(text);
    if (scale == 1 || bytes == 0 || __builtin_mul_overflow(number, bytes, &number)) return false;
    if (number % scale != 0) return false;
    number /= scale;
  }
  *value = number;
  return true;
}

static bool parse_choice(const struct hak_gate *gate, const char *text, uint64_t *value) {
  for (uint64_t i = 0; gate->choices[i] != NULL; i++) {
    if (hak_text_is(text, gate->choices[i])) {
      *value = i;
      return true;
    }
  }
  for (size_t i = 0; gate->is_switch && i < sizeof switch_words / sizeof switch_words[0]; i++) {
    if (is_word(text, switch_words[i])) {
      *value = i % 2;
      return true;
    }
  }
  for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
    if (&hak_gates[aliases[i].gate] == gate && hak_text_is(text, aliases[i].name)) {
      *value = aliases[i].value;
      return true;
    }
  }
  return false;
}

bool hak_gate_parse(const struct hak_gate *gate, const char *text, uint64_t *value) {
  if (gate->choices != NULL) return parse_choice(gate, text, value);
  uint64_t number;
  if (!parse_number(text, hak_gate_scale(gate), &number) || number < gate->least || number > gate->most) return false;
  *value = number;
  return true;
}

void hak_gate_add_value(struct hak_line *line, const struct hak_gate *gate, uint64_t value) {
  if (gate->choices != NULL) {
    hak_line_text(line, gate->choices[value]);
  } else {
    hak_line_number(line, (int64_t)value);
  }
}

static void add_list(struct hak_line *line, const char *const *words, size_t count) {
  for (size_t i = 0; i < count && words[i] != NULL; i++) {
    if (i != 0) hak_line_text(line, ", ");
    hak_line_text(line, words[i]);
  }
}

void hak_gate_add_accepted(struct hak_line *line, const struct hak_gate *gate) {
  if (gate->choices != NULL) {
    add_list(line, gate->choices, SIZE_MAX);
    if (!gate->is_switch) return;
    hak_line_text(line, ", ");
    add_list(line, switch_words, sizeof switch_words / sizeof switch_words[0]);
    return;
  }
  hak_line_number(line, (int64_t)gate->least);
  hak_line_text(line, " to ");
  hak_line_number(line, (int64_t)gate->most);
  hak_line_text(line, " ");
  hak_line_text(line, gate->unit);
  if (hak_gate_scale(gate) == 1) return;
  hak_line_text(line, ", or whole ");
  hak_line_text(line, gate->unit);
  hak_line_text(line, " with a suffix: K, M, G, T");
}
