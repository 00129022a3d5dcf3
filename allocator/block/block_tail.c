// SPDX-License-Identifier: Apache-2.0
//
// The canary behind a small block: the table of its ends, and runs of pattern bytes.
#include "allocator/block/block_tail.h"

#include "allocator/os/bytes.h"

// The canary's second byte is zero; in memory the lowest byte comes first.
#define ALL UINT64_MAX
#define LAST(n) (ALL << 8 * (8 - (n)))
#define ZERO(at) (~((uint64_t)0xFF << 8 * (at)))
const struct hak_tail_end hak_tail_ends[HAK_TAIL_ENDS + 1] = {
    {0, ALL, ZERO(1)},       {LAST(1), ALL, ZERO(0)}, {LAST(2), ZERO(7), ALL}, {LAST(3), ZERO(6), ALL},
    {LAST(4), ZERO(5), ALL}, {LAST(5), ZERO(4), ALL}, {LAST(6), ZERO(3), ALL}, {LAST(7), ZERO(2), ALL},
    {ALL, ZERO(1), ALL},     {ALL, ZERO(0), ALL},     {ALL, ALL, ALL},
};

void hak_tail_fill(const void *block, void *start, size_t bytes) {
  hak_tail_fill_front(block, start, bytes);
  if (bytes > 1) ((char *)start)[1] = 0;
}

bool hak_tail_is_intact(const void *block, const void *start, size_t bytes) {
  const unsigned char *byte = (const unsigned char *)start;
  if (bytes <= 1) return hak_tail_front_is_intact(block, start, bytes);
  return hak_tail_front_is_intact(block, start, 1) && byte[1] == 0 &&
         hak_tail_front_is_intact(block, byte + 2, bytes - 2);
}

void hak_tail_fill_front(const void *block, void *start, size_t bytes) {
  hak_bytes_fill(start, hak_tail_byte(hak_tail_code(block)), bytes);
}

bool hak_tail_front_is_intact(const void *block, const void *start, size_t bytes) {
  return hak_bytes_are(start, hak_tail_byte(hak_tail_code(block)), bytes);
}
