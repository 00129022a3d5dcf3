// SPDX-License-Identifier: Apache-2.0
//
// Splits a text of settings into items.
#include "allocator/gate/conf.h"

#include "allocator/os/bytes.h"

static const char prefix[] = "HAKMEM_";

static bool separates(char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// For ASCII letters only: the C library's function depends on the locale.
static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

// Whether `text` begins with the first `length` letters of `word`, in upper or lower case.
static bool begins(const char *text, const char *word, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (upper(text[i]) != word[i]) return false;
  }
  return true;
}

bool hak_conf_too_long(const char *text) {
  size_t length = 0;
  while (length <= HAK_CONF_LENGTH_MAX && text[length] != '\0') length++;
  return length > HAK_CONF_LENGTH_MAX;
}

bool hak_conf_next(const char **rest, struct hak_conf_item *item) {
  const char *text = *rest;
  while (separates(*text)) text++;
  size_t length = 0;
  while (text[length] != '\0' && !separates(text[length])) length++;
  *rest = text + length;
  if (length == 0) return false;

  item->text = text;
  item->length = length;
  size_t name = 0;
  while (name < length && text[name] != '=') name++;
  item->name = name < length ? name : 0;
  const size_t value_length = item->name != 0 ? length - item->name - 1 : 0;
  item->is_pair = item->name != 0 && value_length <= HAK_CONF_VALUE_MAX;
  if (item->is_pair) {
    hak_bytes_copy(item->value, text + name + 1, value_length);
    item->value[value_length] = '\0';
  }
  return true;
}

bool hak_conf_names(const struct hak_conf_item *item, const char *name) {
  const size_t skipped = sizeof prefix - 1;
  const char *text = item->text;
  size_t length = item->name;
  if (length > skipped && begins(text, prefix, skipped)) {
    text += skipped;
    length -= skipped;
  }
  name += skipped;
  return length == hak_text_length(name) && begins(text, name, length);
}
