// SPDX-License-Identifier: Apache-2.0
//
// Poison: in OBSERVE and HARDENED builds with the header lane on `always`, a free small block is filled with a pattern.
// The next allocation of the block checks that nobody wrote to it in between. In HARDENED the pattern is zero, so that
// a freed block's contents are gone and a stale pointer in it is NULL. Does nothing in other builds.
#ifndef HAKMEM_BLOCK_POISON_H_
#define HAKMEM_BLOCK_POISON_H_

#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/bytes.h"

HAK_C_BEGIN

#define HAK_POISON_ON (HAK_GUARDED && HAK_HEADER == HAK_HEADER_MODE_ALWAYS)
#define HAK_POISON_BYTE (HAK_HARDENED ? 0x00u : 0xDBu)
#define HAK_POISON_WORD (HAK_POISON_BYTE * (UINT64_MAX / 0xFF))

typedef uint64_t hak_poison_row __attribute__((vector_size(16)));
// The same in memory, where a block begins at a multiple of its size: an operand of an instruction, without a load.
typedef uint64_t hak_poison_place __attribute__((vector_size(16), may_alias));
// From here on the processor's own loop is faster.
#define HAK_POISON_LONG 2048u

// Fills 64 bytes.
HAK_INLINE void hak_poison_fill_64(char *at) {
  const hak_poison_row row = {HAK_POISON_WORD, HAK_POISON_WORD};
  for (size_t i = 0; i < 64; i += sizeof row) memcpy(at + i, &row, sizeof row);
}

// Fills the block, of at least eight bytes. Not by memset, which other libraries may wrap: the block is neither live
// nor free meanwhile. The last rows may overlap those before them.
HAK_INLINE void hak_poison_fill(void *block, size_t usable) {
  if (!HAK_POISON_ON) return;
  char *at = (char *)block;
  char *const end = at + usable;
  const hak_poison_row row = {HAK_POISON_WORD, HAK_POISON_WORD};
  if (HAK_UNLIKELY(usable >= HAK_POISON_LONG)) {
    hak_bytes_fill(block, HAK_POISON_BYTE, usable);
  } else if (HAK_UNLIKELY(usable < sizeof row)) {
    memcpy(at, &row, 8);
    memcpy(end - 8, &row, 8);
  } else if (HAK_LIKELY(usable >= 64)) {
    for (; at + 64 <= end; at += 64) {
      hak_poison_fill_64(at);
      HAK_BYTES_PLAINLY(at);
    }
    hak_poison_fill_64(end - 64);
  } else {
    for (; at + sizeof row <= end; at += sizeof row) {
      memcpy(at, &row, sizeof row);
      HAK_BYTES_PLAINLY(at);
    }
    memcpy(end - sizeof row, &row, sizeof row);
  }
}

// The first eight bytes, where a free block may have carried a link.
HAK_INLINE void hak_poison_link(void *block) { hak_poison_fill(block, 8); }

// The difference between the pattern and 16 bytes, or 64 bytes: zero when they hold the pattern.
HAK_INLINE hak_poison_row hak_poison_wrong(const char *bytes) {
  hak_poison_row row;
  memcpy(&row, bytes, sizeof row);
  return row ^ (HAK_POISON_BYTE * (UINT64_MAX / 0xFF));
}
HAK_INLINE hak_poison_row hak_poison_wrong_64(const char *bytes) {
  return hak_poison_wrong(bytes) | hak_poison_wrong(bytes + 16) | hak_poison_wrong(bytes + 32) |
         hak_poison_wrong(bytes + 48);
}

// The same for an address at a multiple of 16.
HAK_INLINE hak_poison_row hak_poison_wrong_aligned_64(const char *bytes) {
  const hak_poison_place *const rows = (const hak_poison_place *)(const void *)bytes;
  const uint64_t word = HAK_POISON_BYTE * (UINT64_MAX / 0xFF);
  return (rows[0] ^ word) | (rows[1] ^ word) | (rows[2] ^ word) | (rows[3] ^ word);
}

// Whether the block, of at least eight bytes, still holds the pattern. Not memcmp: its branches depend on sizes that
// are unpredictable; this function has one branch.
HAK_INLINE bool hak_poison_is_intact(const void *block, size_t usable) {
  if (!HAK_POISON_ON) return true;
  const char *const bytes = (const char *)block;
  const char *const end = bytes + usable;
  hak_poison_row wrong = {0, 0};
  if (HAK_LIKELY(usable >= 64)) {
    for (const char *at = bytes; at + 64 <= end; at += 64) wrong |= hak_poison_wrong_aligned_64(at);
    wrong |= hak_poison_wrong_64(end - 64);
  } else {
    const char *at = bytes;
    for (; at + 16 <= end; at += 16) wrong |= hak_poison_wrong(at);
    char rest[16];
    memcpy(rest, at + 8 <= end ? at : end - 8, 8);
    memcpy(rest + 8, end - 8, 8);
    wrong |= hak_poison_wrong(rest);
  }
  return (wrong[0] | wrong[1]) == 0;
}

HAK_C_END

#endif  // HAKMEM_BLOCK_POISON_H_
