// SPDX-License-Identifier: Apache-2.0
//
// The encoding of profile.proto. A message's fields may come in any order, so everything is written as soon as it is
// known: a text before the message that names it by its number, an address before the first stack with it.
#include "allocator/pprof/profile.h"

#include "allocator/os/bytes.h"

// Numbers of the fields, by message.
enum {
  PROFILE_SAMPLE_TYPE = 1,
  PROFILE_SAMPLE = 2,
  PROFILE_MAPPING = 3,
  PROFILE_LOCATION = 4,
  PROFILE_STRING = 6,
  PROFILE_TIME = 9,
  PROFILE_DURATION = 10,
  PROFILE_PERIOD_TYPE = 11,
  PROFILE_PERIOD = 12,
  PROFILE_COMMENT = 13,
  PROFILE_DEFAULT_TYPE = 14,
  SAMPLE_LOCATION = 1,
  SAMPLE_VALUE = 2,
  TYPE_TYPE = 1,
  TYPE_UNIT = 2,
  MAPPING_ID = 1,
  MAPPING_START = 2,
  MAPPING_LIMIT = 3,
  MAPPING_OFFSET = 4,
  MAPPING_FILE = 5,
  MAPPING_BUILD_ID = 6,
  LOCATION_ID = 1,
  LOCATION_MAPPING = 2,
  LOCATION_ADDRESS = 3,
};

// Places of the hash table that are tried.
#define TRIES 16u

const struct hak_pprof_type hak_pprof_heap_types[HAK_PPROF_HEAP_VALUES] = {
    {"alloc_objects", "count"},        {"alloc_space", "bytes"},      {"inuse_objects", "count"},
    {"inuse_space", "bytes"},          {"peak_objects", "count"},     {"peak_space", "bytes"},
    {"fragmentation", "bytes"},        {"lifetime_objects", "count"}, {"lifetime_space", "bytes"},
    {"lifetime_time", "microseconds"}, {"growth_objects", "count"},   {"growth_space", "bytes"}};

// ---- Encoding ------------------------------------------------------------------------------------

static uint32_t number_size(uint64_t value) {
  uint32_t size = 1;
  for (; value >= 0x80; value >>= 7) size++;
  return size;
}

static void put_number(struct hak_pprof *pprof, uint64_t value) {
  unsigned char bytes[10];
  uint32_t size = 0;
  for (; value >= 0x80; value >>= 7) bytes[size++] = (unsigned char)(value | 0x80);
  bytes[size++] = (unsigned char)value;
  hak_gzip_put(&pprof->gzip, bytes, size);
}

// All fields have numbers below 16, so a tag is one byte.
static void put_field(struct hak_pprof *pprof, uint32_t field, uint64_t value) {
  put_number(pprof, field << 3);
  put_number(pprof, value);
}

static uint32_t field_size(uint64_t value) { return 1 + number_size(value); }

// The head of a field that holds bytes: a message, a text, or packed numbers.
static void put_bytes_head(struct hak_pprof *pprof, uint32_t field, uint64_t size) {
  put_number(pprof, field << 3 | 2);
  put_number(pprof, size);
}

// A message of the fields 1, 2, ... with these values.
static void put_message(struct hak_pprof *pprof, uint32_t field, const uint64_t *values, uint32_t count) {
  uint64_t size = 0;
  for (uint32_t i = 0; i < count; i++) size += field_size(values[i]);
  put_bytes_head(pprof, field, size);
  for (uint32_t i = 0; i < count; i++) put_field(pprof, i + 1, values[i]);
}

// The length of the UTF-8 character at `text`, or 0: it is none. Readers refuse a profile with other texts.
static uint32_t character(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  if (at[0] < 0x80) return 1;
  const uint32_t length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
  if (at[0] < 0xC2 || at[0] > 0xF4) return 0;
  uint32_t code = at[0] & (0x7Fu >> length);
  for (uint32_t i = 1; i < length; i++) {
    if ((at[i] & 0xC0) != 0x80) return 0;
    code = code << 6 | (at[i] & 0x3Fu);
  }
  // Longer than needed, a surrogate, or beyond the last character.
  if (length == 3 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) return 0;
  if (length == 4 && (code < 0x10000 || code > 0x10FFFF)) return 0;
  return length;
}

// Writes a text and returns its number. Bytes that are not UTF-8 become question marks.
static uint64_t put_text(struct hak_pprof *pprof, const char *text) {
  put_bytes_head(pprof, PROFILE_STRING, hak_text_length(text));
  while (*text != '\0') {
    const uint32_t length = character(text);
    hak_gzip_put(&pprof->gzip, length != 0 ? text : "?", length != 0 ? length : 1);
    text += length != 0 ? length : 1;
  }
  return pprof->strings++;
}

static uint64_t put_type(struct hak_pprof *pprof, uint32_t field, const struct hak_pprof_type *type) {
  const uint64_t name = put_text(pprof, type->type);
  const uint64_t unit = put_text(pprof, type->unit);
  static_assert(TYPE_TYPE == 1 && TYPE_UNIT == 2, "the order of the values");
  put_message(pprof, field, (const uint64_t[]){name, unit}, 2);
  return name;
}

// ---- The profile ---------------------------------------------------------------------------------

HAK_COLD void hak_pprof_begin(struct hak_pprof *pprof, hak_gzip_sink *sink, void *context,
                              const struct hak_pprof_about *about) {
  hak_gzip_begin(&pprof->gzip, sink, context);
  pprof->values = about->values;
  pprof->strings = 0;
  pprof->mapping_count = 0;
  pprof->next_location = HAK_PPROF_ADDRESSES + 1;
  pprof->cut_stacks = 0;
  pprof->left_mappings = 0;
  hak_bytes_fill(pprof->addresses, 0, sizeof pprof->addresses);
  // The first text is the empty one.
  put_text(pprof, "");
  for (uint32_t i = 0; i < about->values; i++) {
    const uint64_t name = put_type(pprof, PROFILE_SAMPLE_TYPE, &about->types[i]);
    if (i == about->first) put_field(pprof, PROFILE_DEFAULT_TYPE, name);
  }
  if (about->period_type.type[0] != '\0') {
    put_type(pprof, PROFILE_PERIOD_TYPE, &about->period_type);
    put_field(pprof, PROFILE_PERIOD, (uint64_t)about->period);
  }
  if (about->time_ns != 0) put_field(pprof, PROFILE_TIME, about->time_ns);
  if (about->duration_ns != 0) put_field(pprof, PROFILE_DURATION, about->duration_ns);
}

HAK_COLD void hak_pprof_add_mapping(struct hak_pprof *pprof, const struct hak_mapping *mapping) {
  const uint32_t count = pprof->mapping_count;
  if (mapping->start >= mapping->limit || (count != 0 && mapping->start < pprof->ranges[count - 1].limit)) return;
  if (count == HAK_PPROF_MOST_MAPPINGS) {
    pprof->left_mappings++;
    return;
  }
  pprof->ranges[count] = (struct hak_pprof_range){mapping->start, mapping->limit};
  pprof->mapping_count = count + 1;
  const uint64_t file = put_text(pprof, mapping->file);
  const uint64_t build_id = mapping->build_id[0] != '\0' ? put_text(pprof, mapping->build_id) : 0;
  static_assert(MAPPING_ID == 1 && MAPPING_START == 2 && MAPPING_LIMIT == 3, "the order of the values");
  static_assert(MAPPING_OFFSET == 4 && MAPPING_FILE == 5 && MAPPING_BUILD_ID == 6, "the order of the values");
  const uint64_t values[] = {count + 1, mapping->start, mapping->limit, mapping->offset, file, build_id};
  put_message(pprof, PROFILE_MAPPING, values, sizeof values / sizeof values[0]);
}

static void add_mapping(const struct hak_mapping *mapping, void *context) { hak_pprof_add_mapping(context, mapping); }

HAK_COLD bool hak_pprof_add_process(struct hak_pprof *pprof) {
  return hak_mappings_read(&pprof->mappings, add_mapping, pprof);
}

// The number of the mapping that holds the address, or 0.
static uint64_t mapping_of(const struct hak_pprof *pprof, uintptr_t address) {
  uint32_t low = 0;
  uint32_t high = pprof->mapping_count;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (pprof->ranges[middle].limit <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < pprof->mapping_count && pprof->ranges[low].start <= address ? low + 1 : 0;
}

// The identity of an address, which is written if that was not done before.
static uint64_t location(struct hak_pprof *pprof, uintptr_t address) {
  uint64_t id = 0;
  const uint64_t hash = address * 0x9E3779B97F4A7C15u;
  for (uint32_t i = 0; i < TRIES && id == 0; i++) {
    const uint32_t at = (uint32_t)((hash >> 32) + i) % HAK_PPROF_ADDRESSES;
    if (pprof->addresses[at] == address) return at + 1;
    if (pprof->addresses[at] == 0) {
      pprof->addresses[at] = address;
      id = at + 1;
    }
  }
  if (id == 0) id = pprof->next_location++;
  static_assert(LOCATION_ID == 1 && LOCATION_MAPPING == 2 && LOCATION_ADDRESS == 3, "the order of the values");
  put_message(pprof, PROFILE_LOCATION, (const uint64_t[]){id, mapping_of(pprof, address), address}, 3);
  return id;
}

HAK_COLD void hak_pprof_add(struct hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
  uint32_t count = 0;
  uint64_t stack_size = 0;
  for (uint32_t i = 0; i < frames; i++) {
    const uintptr_t after = (uintptr_t)frame[i];
    // 0 is no address, and the byte before 1 would be 0.
    if (after <= 1) continue;
    if (count == HAK_PPROF_MOST_FRAMES) {
      pprof->cut_stacks++;
      break;
    }
    // The last byte of the call: the address behind it may belong to another line, or to another function.
    pprof->stack[count] = location(pprof, after - 1);
    stack_size += number_size(pprof->stack[count++]);
  }
  uint64_t values_size = 0;
  for (uint32_t i = 0; i < pprof->values; i++) values_size += number_size((uint64_t)values[i]);
  put_bytes_head(pprof, PROFILE_SAMPLE, field_size(stack_size) + stack_size + field_size(values_size) + values_size);
  put_bytes_head(pprof, SAMPLE_LOCATION, stack_size);
  for (uint32_t i = 0; i < count; i++) put_number(pprof, pprof->stack[i]);
  put_bytes_head(pprof, SAMPLE_VALUE, values_size);
  for (uint32_t i = 0; i < pprof->values; i++) put_number(pprof, (uint64_t)values[i]);
}

HAK_COLD void hak_pprof_comment(struct hak_pprof *pprof, const char *text) {
  put_field(pprof, PROFILE_COMMENT, put_text(pprof, text));
}

HAK_COLD void hak_pprof_comment_number(struct hak_pprof *pprof, uint64_t value, const char *what) {
  if (value == 0) return;
  char text[96];
  size_t at = 20;
  text[at] = '\0';
  do {
    text[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  hak_bytes_copy(text, text + at, 20 - at);
  const size_t length = hak_text_length(what);
  hak_bytes_copy(text + (20 - at), what, length + 1);
  hak_pprof_comment(pprof, text);
}

HAK_COLD int hak_pprof_end(struct hak_pprof *pprof) {
  hak_pprof_comment_number(pprof, pprof->cut_stacks, " stacks are cut to 256 frames");
  hak_pprof_comment_number(pprof, pprof->left_mappings, " mappings are left out: only 1024 are written");
  return hak_gzip_end(&pprof->gzip);
}
static_assert(HAK_PPROF_MOST_FRAMES == 256 && HAK_PPROF_MOST_MAPPINGS == 1024, "the comments tell the numbers");
