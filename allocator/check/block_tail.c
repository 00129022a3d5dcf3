// SPDX-License-Identifier: Apache-2.0
#include "allocator/check/block_tail.h"

#include <string.h>

#include "allocator/os/report.h"
#include "allocator/tiny/tiny_nextptr.h"

#define HIGH_BIT ((uint64_t)1 << 63)

// What the length is XORed with; its highest bit is set.
static uint64_t code_of(const void *block) {
  const uint64_t mixed = ((uint64_t)(uintptr_t)block ^ hak_nextptr_secret) * 0x9E3779B97F4A7C15u;
  return (mixed ^ mixed >> 29) | HIGH_BIT;
}

// The bytes of the pattern are all the same: the upper ones of the code are the better mixed ones.
static unsigned char pattern_of(const void *block) { return (unsigned char)(code_of(block) >> 56); }

void hak_tail_fill(const void *block, void *start, size_t bytes) { memset(start, pattern_of(block), bytes); }

bool hak_tail_intact(const void *block, const void *start, size_t bytes) {
  const unsigned char *byte = (const unsigned char *)start;
  const unsigned char pattern = pattern_of(block);
  for (size_t i = 0; i < bytes; i++) {
    if (byte[i] != pattern) return false;
  }
  return true;
}

void hak_tail_seal(void *block, size_t usable, size_t size) {
  const size_t canary = usable - HAK_TAIL_BYTES - size;
  char *const end = (char *)block + size;
  hak_tail_fill(block, end, canary);
  // Twice, so that a changed byte makes two lengths that differ. The byte with the highest bit comes first.
  const uint64_t word = __builtin_bswap64(((uint64_t)canary << 32 | canary) ^ code_of(block));
  memcpy(end + canary, &word, sizeof word);
}

size_t hak_tail_size(const void *block, size_t usable) {
  const size_t most = usable - HAK_TAIL_BYTES;
  uint64_t word;
  memcpy(&word, (const char *)block + most, sizeof word);
  const uint64_t twice = __builtin_bswap64(word) ^ code_of(block);
  const uint64_t canary = twice >> 32;
  if (HAK_UNLIKELY(canary > most || canary != (uint32_t)twice ||
                   !hak_tail_intact(block, (const char *)block + most - canary, canary))) {
    hak_fatal("overflow", block);
  }
  return most - canary;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a swapped word has its high byte first");
