// SPDX-License-Identifier: Apache-2.0
//
// SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of 16 bytes. Who does not know the key
// learns from any number of results nothing about others.
#ifndef HAKMEM_OS_SIPHASH_H_
#define HAKMEM_OS_SIPHASH_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

HAK_INLINE uint64_t hak_siphash_rotate(uint64_t word, int by) { return word << by | word >> (64 - by); }

HAK_INLINE void hak_siphash_round(uint64_t v[4]) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = hak_siphash_rotate(v[1], 13) ^ v[0];
  v[3] = hak_siphash_rotate(v[3], 16) ^ v[2];
  v[0] = hak_siphash_rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = hak_siphash_rotate(v[1], 17) ^ v[2];
  v[3] = hak_siphash_rotate(v[3], 21) ^ v[0];
  v[2] = hak_siphash_rotate(v[2], 32);
}

// Of the bytes of `message`, each word in little-endian order; the key's likewise.
HAK_INLINE uint64_t hak_siphash(const uint64_t key[2], const uint64_t message[2]) {
  uint64_t v[4] = {key[0] ^ 0x736F6D6570736575u, key[1] ^ 0x646F72616E646F6Du, key[0] ^ 0x6C7967656E657261u,
                   key[1] ^ 0x7465646279746573u};
  // The last word ends with the number of bytes.
  const uint64_t words[3] = {message[0], message[1], (uint64_t)16 << 56};
  for (int i = 0; i < 3; i++) {
    v[3] ^= words[i];
    hak_siphash_round(v);
    hak_siphash_round(v);
    v[0] ^= words[i];
  }
  v[2] ^= 0xFF;
  for (int i = 0; i < 4; i++) hak_siphash_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

HAK_C_END

#endif  // HAKMEM_OS_SIPHASH_H_
