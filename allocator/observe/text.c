// SPDX-License-Identifier: Apache-2.0
//
// Text in a caller's buffer.
#include "allocator/observe/text.h"

HAK_COLD void hak_text_put(struct hak_text *text, const char *more) {
  for (; *more != '\0'; more++) {
    if (text->length < text->size) text->buffer[text->length] = *more;
    text->length++;
  }
}

HAK_COLD void hak_text_number(struct hak_text *text, uint64_t value) {
  char digits[21];
  size_t at = sizeof digits - 1;
  digits[at] = '\0';
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  hak_text_put(text, &digits[at]);
}

HAK_COLD size_t hak_text_end(struct hak_text *text) {
  if (text->size != 0) text->buffer[text->length < text->size ? text->length : text->size - 1] = '\0';
  return text->length;
}
