// SPDX-License-Identifier: Apache-2.0
//
// How far a misspelt name is from a right one.
#ifndef HAKMEM_GATE_EDIT_DISTANCE_H_
#define HAKMEM_GATE_EDIT_DISTANCE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// The longest text that is compared, in bytes.
#define HAK_EDIT_LENGTH_MAX 63

// The edit distance of two texts (Levenshtein): how many letters must be inserted, removed or replaced to make one of
// the other. Upper and lower case of ASCII letters are equal. UINT32_MAX if a text is longer than HAK_EDIT_LENGTH_MAX.
// Takes at most HAK_EDIT_LENGTH_MAX * HAK_EDIT_LENGTH_MAX steps, and 64 bytes of stack. Thread-safe.
uint32_t hak_edit_distance(const char *a, size_t a_length, const char *b, size_t b_length);

HAK_C_END

#endif  // HAKMEM_GATE_EDIT_DISTANCE_H_
