// SPDX-License-Identifier: Apache-2.0
//
// Settings compiled into a program or a build: one text of "NAME=value" items, separated by commas or white space. NAME
// is the name of a setting, with or without HAKMEM_, in upper or lower case. This box splits the text; gate.h
// interprets the values.
#ifndef HAKMEM_GATE_CONF_H_
#define HAKMEM_GATE_CONF_H_

#include <stddef.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// The longest text that is read, in bytes without its NUL. A longer text is rejected as a whole.
#define HAK_CONF_LENGTH_MAX 4096

// The longest value, in bytes without its NUL.
#define HAK_CONF_VALUE_MAX 63

struct hak_conf_item {
  const char *text;                    // where it begins; it ends after `length` bytes, not at a NUL
  size_t length;                       // in bytes, never 0
  size_t name;                         // bytes before its first '='; 0 if there is none
  bool is_pair;                        // it has a name, an '=', and a value of at most HAK_CONF_VALUE_MAX bytes
  char value[HAK_CONF_VALUE_MAX + 1];  // of a pair; ends at a NUL
};

// Whether the text is longer than HAK_CONF_LENGTH_MAX. Reads at most one byte more than that.
bool hak_conf_too_long(const char *text);

// Takes the next item from `*rest`, which then points behind it. False: no item is left, and *item is unchanged.
bool hak_conf_next(const char **rest, struct hak_conf_item *item);

// Whether the item names the setting `name` ("HAKMEM_...").
bool hak_conf_names(const struct hak_conf_item *item, const char *name);

HAK_C_END

#endif  // HAKMEM_GATE_CONF_H_
