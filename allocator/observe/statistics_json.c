// SPDX-License-Identifier: Apache-2.0
//
// The statistics as JSON: RFC 8259, in one line, all numbers integers.
#include "allocator/observe/statistics_json.h"

#include "allocator/observe/statistics.h"
#include "allocator/observe/text.h"
#include "allocator/os/os.h"

// Raised when a member that there was changes its meaning or goes; new members do not raise it.
#define JSON_VERSION 1u

struct json {
  struct hak_text text;
  bool first;  // the next value is the first one of its object or array
};

// What comes before a value: a comma between values, and the name in an object.
static HAK_COLD void begin_value(struct json *json, const char *name) {
  if (!json->first) hak_text_put(&json->text, ",");
  json->first = false;
  if (name == NULL) return;
  hak_text_put(&json->text, "\"");
  hak_text_put(&json->text, name);
  hak_text_put(&json->text, "\":");
}

static HAK_COLD void number(const char *name, uint64_t value, void *context) {
  struct json *json = context;
  begin_value(json, name);
  hak_text_number(&json->text, value);
}

// A number that there may not be.
static HAK_COLD void number_or_null(struct json *json, const char *name, uint64_t value, uint64_t none) {
  if (value != none) {
    number(name, value, json);
  } else {
    begin_value(json, name);
    hak_text_put(&json->text, "null");
  }
}

// No object or array is empty, so a value that follows it is not the first one.
static HAK_COLD void open_value(struct json *json, const char *name, const char *bracket) {
  begin_value(json, name);
  hak_text_put(&json->text, bracket);
  json->first = true;
}

static HAK_COLD void put_classes(struct json *json, const struct hak_all_statistics *all) {
  open_value(json, "classes", "[");
  for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
    const struct hak_class_statistics *of = &all->classes[class_id];
    open_value(json, NULL, "{");
    number("block_bytes", hak_class_usable(class_id), json);
    number("slabs", of->slabs, json);
    number("live_blocks", of->live_blocks, json);
    number("cached_blocks", of->cached_blocks, json);
    number("remote_blocks", of->remote_blocks, json);
    number("free_blocks", of->free_blocks, json);
    number("fresh_blocks", of->fresh_blocks, json);
    hak_text_put(&json->text, "}");
  }
  hak_text_put(&json->text, "]");
}

static HAK_COLD void put_large(struct json *json, const struct hak_all_statistics *all) {
  open_value(json, "large", "[");
  for (uint32_t range = 0; range < HAK_LARGE_RANGES; range++) {
    open_value(json, NULL, "{");
    number_or_null(json, "up_to_bytes", hak_large_range_end(range), UINT64_MAX);
    number("blocks", all->large[range].blocks, json);
    number("bytes", all->large[range].bytes, json);
    hak_text_put(&json->text, "}");
  }
  hak_text_put(&json->text, "]");
}

HAK_COLD size_t hak_statistics_json(char *buffer, size_t size, const char *build) {
  struct hak_all_statistics all;
  hak_statistics_gather_all(&all);
  struct json json = {.text = {.buffer = buffer, .size = size}, .first = true};
  open_value(&json, NULL, "{");
  number("version", JSON_VERSION, &json);
  begin_value(&json, "build");
  hak_text_put(&json.text, "\"");
  hak_text_put(&json.text, build);
  hak_text_put(&json.text, "\"");
  open_value(&json, "process", "{");
  hak_statistics_for_each(&all.process, number, &json);
  number_or_null(&json, "resident_bytes", hak_os_resident_bytes(), 0);
  number("empty_blocks", all.empty_blocks, &json);
  hak_text_put(&json.text, "}");
  open_value(&json, "limits", "{");
  number_or_null(&json, "memory_bytes", all.memory_limit, UINT64_MAX);
  number_or_null(&json, "control_group_bytes", all.group_limit, UINT64_MAX);
  number_or_null(&json, "purge_at_bytes", all.purge_limit, UINT64_MAX);
  hak_text_put(&json.text, "}");
  put_classes(&json, &all);
  put_large(&json, &all);
  hak_text_put(&json.text, "}");
  hak_text_put(&json.text, "\n");
  return hak_text_end(&json.text);
}
