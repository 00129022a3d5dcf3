// SPDX-License-Identifier: Apache-2.0
//
// block_tail: in OBSERVE and HARDENED a small block ends exactly where its request ends. A canary fills the block from
// the end of the request. The last eight bytes of the block encode the length of the canary twice, and the kind of the
// block (block_kind.h):
//
//   | request | pattern ............ | word |
//
// Both depend on a secret and on the block's address. The first byte behind the request is always at least 0x80, so a
// string's terminating zero, or text that overflows by one byte, is always noticed. Any other byte goes unnoticed with
// a probability of 1/128. The second byte is zero: a read of a string without a terminating zero stops there. The
// second byte can belong to the pattern or to the word.
#ifndef HAKMEM_BLOCK_BLOCK_TAIL_H_
#define HAKMEM_BLOCK_BLOCK_TAIL_H_

#include <string.h>

#include "allocator/block/block_kind.h"
#include "allocator/block/tiny_nextptr.h"
#include "allocator/os/base.h"
#include "allocator/os/report.h"

HAK_C_BEGIN

// The least number of bytes that a block has beyond the request.
#define HAK_TAIL_BYTES (HAK_GUARDED ? (size_t)8 : (size_t)0)
// The number for a request of `size` bytes: together with the header of the block behind, the canary of a block of
// 4 KiB or more takes all 16 bytes in front of that block. So a write there never changes the request.
#define HAK_TAIL_WIDE ((size_t)4096)
#define HAK_TAIL_WIDE_BYTES (HAK_TAIL_BYTES + (HAK_GUARDED ? (size_t)7 : (size_t)0))
HAK_INLINE size_t hak_tail_bytes(size_t size) { return size < HAK_TAIL_WIDE ? HAK_TAIL_BYTES : HAK_TAIL_WIDE_BYTES; }
// The request that takes `whole` bytes together with that number.
HAK_INLINE size_t hak_tail_request(size_t whole) {
  return whole - HAK_TAIL_BYTES < HAK_TAIL_WIDE ? whole - HAK_TAIL_BYTES : whole - HAK_TAIL_WIDE_BYTES;
}

// Writes the pattern to the `bytes` bytes at `start`, which lie behind `block`; and tells whether it is still there.
void hak_tail_fill(const void *block, void *start, size_t bytes);
bool hak_tail_is_intact(const void *block, const void *start, size_t bytes);
// The same for bytes in front of `block`: there no byte of the pattern is zero.
void hak_tail_fill_front(const void *block, void *start, size_t bytes);
bool hak_tail_front_is_intact(const void *block, const void *start, size_t bytes);

// The length is XORed with this code. Its highest bit is set.
HAK_INLINE uint64_t hak_tail_code(const void *block) {
  const uint64_t mixed = hak_nextptr_mixed(block);
  return (mixed ^ mixed >> 29) | (uint64_t)1 << 63;
}

// All bytes of the pattern are equal, except the second one. They come from the upper bits of the code, which are mixed
// best.
HAK_INLINE unsigned char hak_tail_byte(uint64_t code) { return (unsigned char)(code >> 56); }
HAK_INLINE uint64_t hak_tail_row(uint64_t code) { return hak_tail_byte(code) * (UINT64_MAX / 0xFF); }
HAK_INLINE uint64_t hak_tail_first_row(uint64_t code) { return hak_tail_row(code) & ~(uint64_t)0xFF00; }

// Half of the word: the length of the canary, which has 15 bits, and the kind above it.
#define HAK_TAIL_CANARY_BITS 15u
HAK_INLINE uint64_t hak_tail_half(uint64_t canary, enum hak_kind kind) {
  return canary | (uint64_t)kind << HAK_TAIL_CANARY_BITS;
}
HAK_INLINE uint64_t hak_tail_canary(uint64_t half) { return half & (((uint64_t)1 << HAK_TAIL_CANARY_BITS) - 1); }
HAK_INLINE enum hak_kind hak_tail_kind(uint64_t half) { return (enum hak_kind)(half >> HAK_TAIL_CANARY_BITS); }
HAK_INLINE bool hak_tail_is_half(uint64_t half) { return half < (uint64_t)HAK_KIND_COUNT << HAK_TAIL_CANARY_BITS; }

// The word behind a canary. It holds everything twice, so that a changed byte makes the two halves differ. The byte
// with the highest bit comes first. The second byte behind the request is zero if it belongs to the word; without a
// canary it takes the place of two bits of the kind, which the word then has only once.
HAK_INLINE uint64_t hak_tail_word(uint64_t code, uint64_t half) {
  const uint64_t canary = hak_tail_canary(half);
  const uint64_t zero = canary < 2 ? (uint64_t)0xFF << 48 << 8 * canary : 0;
  return __builtin_bswap64(((half << 32 | half) ^ code) & ~zero);
}

// HARDENED checks only the first eight bytes of a canary, its last eight, and the word. It finds an overflow, or a
// write in front of the block behind, unless the write skips these bytes; a write that skips them and stays in the
// block damages nothing. Only OBSERVE takes the time for a loop of unpredictable length.
#define HAK_TAIL_WATCHED (HAK_HARDENED ? (size_t)8 : SIZE_MAX)

// The offset of the last eight bytes of a canary, or 0 when it is shorter.
HAK_INLINE size_t hak_tail_last(size_t bytes) { return bytes > 8 ? bytes - 8 : 0; }

// A canary is written and read by words. Eight bytes of the block follow it, so the last word may reach into them.
HAK_INLINE void hak_tail_canary_fill(char *start, size_t bytes, uint64_t code) {
  const uint64_t first = hak_tail_first_row(code);
  const uint64_t row = hak_tail_row(code);
  // The last eight bytes may overlap the first eight.
  if (HAK_HARDENED) memcpy(start + hak_tail_last(bytes), &row, sizeof row);
  memcpy(start, &first, sizeof first);
  for (size_t i = sizeof row; i < bytes && i < HAK_TAIL_WATCHED; i += sizeof row) memcpy(start + i, &row, sizeof row);
}

HAK_INLINE bool hak_tail_canary_is_intact(const char *start, size_t bytes, uint64_t code) {
  uint64_t row = hak_tail_first_row(code);
  uint64_t word, wrong = 0;
  size_t i = 0;
  for (; i + sizeof word <= bytes && i + sizeof word < HAK_TAIL_WATCHED; i += sizeof word) {
    memcpy(&word, start + i, sizeof word);
    wrong |= word ^ row;
    row = hak_tail_row(code);
  }
  memcpy(&word, start + i, sizeof word);
  // Masks the last bytes by two shifts, because one shift cannot shift out a whole word. A branch here would be
  // unpredictable.
  const size_t last = bytes - i < sizeof word ? bytes - i : sizeof word;
  wrong |= (word ^ row) << 4 * (8 - last) << 4 * (8 - last);
  if (HAK_HARDENED) {
    memcpy(&word, start + hak_tail_last(bytes), sizeof word);
    row = hak_tail_row(code);
    // The second byte of the canary is not the pattern's. If nine bytes are left, it is the first of them.
    const uint64_t looked_at = bytes > 9 ? UINT64_MAX : bytes == 9 ? ~(uint64_t)0xFF : 0;
    wrong |= (word ^ row) & looked_at;
  }
  return wrong == 0;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a word's first bytes are its low ones");

// Makes the block, which has `usable` bytes, a block of `size` <= usable - HAK_TAIL_BYTES bytes and of the kind.
HAK_INLINE void hak_tail_seal(void *block, size_t usable, size_t size, enum hak_kind kind) {
  const size_t canary = usable - HAK_TAIL_BYTES - size;
  const uint64_t code = hak_tail_code(block);
  char *const end = (char *)block + size;
  hak_tail_canary_fill(end, canary, code);
  const uint64_t word = hak_tail_word(code, hak_tail_half(canary, kind));
  memcpy(end + canary, &word, sizeof word);
}

// Whether the canary is intact; *size and *kind: what the block was sealed with.
HAK_INLINE bool hak_tail_read(const void *block, size_t usable, size_t *size, enum hak_kind *kind) {
  const size_t most = usable - HAK_TAIL_BYTES;
  const uint64_t code = hak_tail_code(block);
  uint64_t word;
  memcpy(&word, (const char *)block + most, sizeof word);
  const uint64_t half = (uint32_t)(__builtin_bswap64(word) ^ code);
  const uint64_t canary = hak_tail_canary(half);
  *size = most - canary;
  *kind = hak_tail_kind(half);
  return canary <= most && word == hak_tail_word(code, half) && hak_tail_is_half(half) &&
         hak_tail_canary_is_intact((const char *)block + most - canary, canary, code);
}

// For a canary of n bytes (the last row: ten or more): which of the eight bytes in front of the word belong to the
// canary, and which bytes of these eight and of the word are not zero.
struct hak_tail_end {
  uint64_t known;
  uint64_t row;
  uint64_t word;
};
#define HAK_TAIL_ENDS 10u
extern const struct hak_tail_end hak_tail_ends[HAK_TAIL_ENDS + 1];

// Whether the last eight bytes of the canary (or all of a shorter one) and the word are intact, or `unused` stands in
// place of the word. Without branches, because they would be unpredictable: half of all neighbours are free.
HAK_INLINE bool hak_tail_end_is_intact(const void *block, size_t usable, uint64_t unused) {
  const size_t most = usable - HAK_TAIL_BYTES;
  const uint64_t code = hak_tail_code(block);
  uint64_t word, row;
  memcpy(&word, (const char *)block + most, sizeof word);
  memcpy(&row, (const char *)block + most - sizeof row, sizeof row);  // It may begin with the block's header.
  const uint64_t half = (uint32_t)(__builtin_bswap64(word) ^ code);
  const uint64_t canary = hak_tail_canary(half);
  const struct hak_tail_end *const end = &hak_tail_ends[canary < HAK_TAIL_ENDS ? canary : HAK_TAIL_ENDS];
  const uint64_t wrong_row = (row ^ (hak_tail_row(code) & end->row)) & end->known;
  const uint64_t wrong_word = word ^ (__builtin_bswap64((half << 32 | half) ^ code) & end->word);
  return ((((wrong_row | wrong_word) == 0) & hak_tail_is_half(half)) | (word == unused)) != 0;
}

// The size that the block was sealed with, and its kind. Ends the process when the canary is damaged.
HAK_INLINE size_t hak_tail_size(const void *block, size_t usable, enum hak_kind *kind) {
  size_t size;
  if (HAK_UNLIKELY(!hak_tail_read(block, usable, &size, kind))) {
    hak_fatal_block("overflow", block, usable + HAK_HEADER_BYTES);
  }
  return size;
}

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_TAIL_H_
