// SPDX-License-Identifier: Apache-2.0
//
// block_tail: the end of a small block at its very request, in OBSERVE and HARDENED. Behind the bytes that the program
// asked for stands a canary up to the end of the block, whose last eight bytes say twice how long it is:
//
//   | request | pattern ............ | word |
//
// Both depend on a secret and on the block's address. The first byte behind the request is never below 0x80, so a
// string's terminating zero, or text that runs over by one byte, never goes unnoticed; another byte does with a
// probability of 1/128. The second one is zero: whoever reads a string that fills its block without a zero of its own
// stops there. It may be the pattern's or the word's.
#ifndef HAKMEM_BLOCK_BLOCK_TAIL_H_
#define HAKMEM_BLOCK_BLOCK_TAIL_H_

#include <string.h>

#include "allocator/block/tiny_nextptr.h"
#include "allocator/os/base.h"
#include "allocator/os/report.h"

HAK_C_BEGIN

// What a request needs at least beyond its size.
#define HAK_TAIL_BYTES (HAK_GUARDED ? (size_t)8 : (size_t)0)
// And what one of `size` bytes gets: with the header of the block behind, the canary of a block of 4 KiB and more takes
// all of the 16 bytes in front of that block, so a write there is never one into the request.
#define HAK_TAIL_WIDE ((size_t)4096)
#define HAK_TAIL_WIDE_BYTES (HAK_TAIL_BYTES + (HAK_GUARDED ? (size_t)7 : (size_t)0))
HAK_INLINE size_t hak_tail_bytes(size_t size) { return size < HAK_TAIL_WIDE ? HAK_TAIL_BYTES : HAK_TAIL_WIDE_BYTES; }

// The pattern for the `bytes` at `start`, which lie behind `block`; and whether it is still there.
void hak_tail_fill(const void *block, void *start, size_t bytes);
bool hak_tail_intact(const void *block, const void *start, size_t bytes);
// The same for bytes that lie in front of `block`: no byte is zero.
void hak_tail_fill_front(const void *block, void *start, size_t bytes);
bool hak_tail_front_intact(const void *block, const void *start, size_t bytes);

// What the length is XORed with; its highest bit is set.
HAK_INLINE uint64_t hak_tail_code(const void *block) {
  const uint64_t mixed = hak_nextptr_mixed(block);
  return (mixed ^ mixed >> 29) | (uint64_t)1 << 63;
}

// The bytes of the pattern are all the same, but for the second: the upper ones of the code are the better mixed ones.
HAK_INLINE unsigned char hak_tail_byte(uint64_t code) { return (unsigned char)(code >> 56); }
HAK_INLINE uint64_t hak_tail_row(uint64_t code) { return hak_tail_byte(code) * (UINT64_MAX / 0xFF); }
HAK_INLINE uint64_t hak_tail_first_row(uint64_t code) { return hak_tail_row(code) & ~(uint64_t)0xFF00; }

// The word behind a canary of so many bytes. Twice, so that a changed byte makes two lengths that differ. The byte with
// the highest bit comes first, and the second byte behind the request is zero where that is one of the word's.
HAK_INLINE uint64_t hak_tail_word(uint64_t code, uint64_t canary) {
  const uint64_t zero = canary < 2 ? (uint64_t)0xFF << 48 << 8 * canary : 0;
  return __builtin_bswap64(((canary << 32 | canary) ^ code) & ~zero);
}

// HARDENED looks at no more of a canary than its first eight bytes, its last eight, and the word: an overflow, or a
// write in front of the block behind, that does not skip them is found, and one that does, but stays in the block,
// harms nobody. The time that a loop of unforeseeable length takes is well spent in OBSERVE only.
#define HAK_TAIL_WATCHED (HAK_HARDENED ? (size_t)8 : SIZE_MAX)

// Where the last eight bytes of a canary begin, or its first.
HAK_INLINE size_t hak_tail_last(size_t bytes) { return bytes > 8 ? bytes - 8 : 0; }

// A canary is written and read by words: eight bytes of the block follow it, so the last word may reach into them.
HAK_INLINE void hak_tail_canary_fill(char *start, size_t bytes, uint64_t code) {
  const uint64_t first = hak_tail_first_row(code);
  const uint64_t row = hak_tail_row(code);
  // The last eight bytes may be some of the first.
  if (HAK_HARDENED) memcpy(start + hak_tail_last(bytes), &row, sizeof row);
  memcpy(start, &first, sizeof first);
  for (size_t i = sizeof row; i < bytes && i < HAK_TAIL_WATCHED; i += sizeof row) memcpy(start + i, &row, sizeof row);
}

HAK_INLINE bool hak_tail_canary_intact(const char *start, size_t bytes, uint64_t code) {
  uint64_t row = hak_tail_first_row(code);
  uint64_t word, wrong = 0;
  size_t i = 0;
  for (; i + sizeof word <= bytes && i + sizeof word < HAK_TAIL_WATCHED; i += sizeof word) {
    memcpy(&word, start + i, sizeof word);
    wrong |= word ^ row;
    row = hak_tail_row(code);
  }
  memcpy(&word, start + i, sizeof word);
  // The last bytes alone, by two shifts: one cannot shift out all of a word. A branch here would be unpredictable.
  const size_t last = bytes - i < sizeof word ? bytes - i : sizeof word;
  wrong |= (word ^ row) << 4 * (8 - last) << 4 * (8 - last);
  if (HAK_HARDENED) {
    memcpy(&word, start + hak_tail_last(bytes), sizeof word);
    row = hak_tail_row(code);
    // The second byte of all is not of the pattern: it is the first of these where there are nine.
    const uint64_t looked_at = bytes > 9 ? UINT64_MAX : bytes == 9 ? ~(uint64_t)0xFF : 0;
    wrong |= (word ^ row) & looked_at;
  }
  return wrong == 0;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a word's first bytes are its low ones");

// The block, which has `usable` bytes, is now one of `size` <= usable - HAK_TAIL_BYTES.
HAK_INLINE void hak_tail_seal(void *block, size_t usable, size_t size) {
  const size_t canary = usable - HAK_TAIL_BYTES - size;
  const uint64_t code = hak_tail_code(block);
  char *const end = (char *)block + size;
  hak_tail_canary_fill(end, canary, code);
  const uint64_t word = hak_tail_word(code, canary);
  memcpy(end + canary, &word, sizeof word);
}

// Whether the canary is as it was written; *size: what the block was sealed with.
HAK_INLINE bool hak_tail_read(const void *block, size_t usable, size_t *size) {
  const size_t most = usable - HAK_TAIL_BYTES;
  const uint64_t code = hak_tail_code(block);
  uint64_t word;
  memcpy(&word, (const char *)block + most, sizeof word);
  const uint64_t canary = (uint32_t)(__builtin_bswap64(word) ^ code);
  *size = most - canary;
  return canary <= most && word == hak_tail_word(code, canary) &&
         hak_tail_canary_intact((const char *)block + most - canary, canary, code);
}

// Of a canary of so many bytes, or of ten and more: which of the eight bytes in front of the word are the canary's,
// and which bytes of these and of the word are not zero.
struct hak_tail_end {
  uint64_t known;
  uint64_t row;
  uint64_t word;
};
#define HAK_TAIL_ENDS 10u
extern const struct hak_tail_end hak_tail_ends[HAK_TAIL_ENDS + 1];

// Whether the last eight bytes of the canary, or all that there are, and the word are as they were written; or hold
// `unused` instead of the word. Without branches, which would be coins' tosses: half of all neighbours are free.
HAK_INLINE bool hak_tail_end_intact(const void *block, size_t usable, uint64_t unused) {
  const size_t most = usable - HAK_TAIL_BYTES;
  const uint64_t code = hak_tail_code(block);
  uint64_t word, row;
  memcpy(&word, (const char *)block + most, sizeof word);
  memcpy(&row, (const char *)block + most - sizeof row, sizeof row);  // It may begin with the block's header.
  const uint64_t canary = (uint32_t)(__builtin_bswap64(word) ^ code);
  const struct hak_tail_end *const end = &hak_tail_ends[canary < HAK_TAIL_ENDS ? canary : HAK_TAIL_ENDS];
  const uint64_t wrong_row = (row ^ (hak_tail_row(code) & end->row)) & end->known;
  const uint64_t wrong_word = word ^ (__builtin_bswap64((canary << 32 | canary) ^ code) & end->word);
  return (((wrong_row | wrong_word) == 0) | (word == unused)) != 0;
}

// The size that the block was sealed with. Ends the process when the canary is not what it was.
HAK_INLINE size_t hak_tail_size(const void *block, size_t usable) {
  size_t size;
  if (HAK_UNLIKELY(!hak_tail_read(block, usable, &size))) hak_fatal("overflow", block);
  return size;
}

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_TAIL_H_
