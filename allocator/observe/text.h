// SPDX-License-Identifier: Apache-2.0
//
// Text in a caller's buffer: what does not fit is counted and left out, as snprintf does.
#ifndef HAKMEM_OBSERVE_TEXT_H_
#define HAKMEM_OBSERVE_TEXT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_text {
  char *buffer;   // may be NULL if size is 0
  size_t size;    // of the buffer
  size_t length;  // of the whole text, also of what did not fit
};

void hak_text_put(struct hak_text *text, const char *more);
void hak_text_number(struct hak_text *text, uint64_t value);
// Ends the text by a NUL, behind its last character or, if it does not fit, in the buffer's last byte. Returns the
// length of the whole text, without the NUL.
size_t hak_text_end(struct hak_text *text);

HAK_C_END

#endif  // HAKMEM_OBSERVE_TEXT_H_
