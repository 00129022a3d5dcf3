// SPDX-License-Identifier: Apache-2.0
//
// The edit distance by rows, of which only one is kept (Wagner and Fischer, 1974).
#include "allocator/gate/edit_distance.h"

// For ASCII letters only: the C library's function depends on the locale.
static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static uint8_t less(uint32_t a, uint32_t b) { return (uint8_t)(a < b ? a : b); }

uint32_t hak_edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
  if (a_length > HAK_EDIT_LENGTH_MAX || b_length > HAK_EDIT_LENGTH_MAX) return UINT32_MAX;
  // row[j]: the distance of the first i bytes of `a` from the first j bytes of `b`.
  uint8_t row[HAK_EDIT_LENGTH_MAX + 1];
  for (size_t j = 0; j <= b_length; j++) row[j] = (uint8_t)j;
  for (size_t i = 1; i <= a_length; i++) {
    uint8_t diagonal = row[0];  // row[j - 1] of the last round
    row[0] = (uint8_t)i;
    for (size_t j = 1; j <= b_length; j++) {
      const uint32_t replaced = diagonal + (upper(a[i - 1]) != upper(b[j - 1]) ? 1u : 0u);
      diagonal = row[j];
      row[j] = less(replaced, less(row[j], row[j - 1]) + 1u);
    }
  }
  return row[b_length];
}
