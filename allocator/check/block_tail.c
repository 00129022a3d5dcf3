// SPDX-License-Identifier: Apache-2.0
#include "allocator/check/block_tail.h"

void hak_tail_fill(const void *block, void *start, size_t bytes) {
  hak_tail_fill_front(block, start, bytes);
  if (bytes > 1) ((char *)start)[1] = 0;
}

bool hak_tail_intact(const void *block, const void *start, size_t bytes) {
  const unsigned char *byte = (const unsigned char *)start;
  if (bytes <= 1) return hak_tail_front_intact(block, start, bytes);
  return hak_tail_front_intact(block, start, 1) && byte[1] == 0 && hak_tail_front_intact(block, byte + 2, bytes - 2);
}

void hak_tail_fill_front(const void *block, void *start, size_t bytes) {
  memset(start, hak_tail_byte(hak_tail_code(block)), bytes);
}

bool hak_tail_front_intact(const void *block, const void *start, size_t bytes) {
  const unsigned char *byte = (const unsigned char *)start;
  // A row of equal bytes: each is equal to the one before it.
  return bytes == 0 || (byte[0] == hak_tail_byte(hak_tail_code(block)) && memcmp(byte, byte + 1, bytes - 1) == 0);
}
