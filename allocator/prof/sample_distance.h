// SPDX-License-Identifier: Apache-2.0
//
// How far it is to the next sample, and what a sample stands for. Each byte that is allocated is sampled with the same
// small chance, independently of all others, so the distances between sampled bytes are exponential with the mean
// `mean` (a Poisson process), and a block is sampled when a sampled byte falls into it. A block of S bytes is then
// sampled with the probability 1 - e^(-S / mean). A sample that counts for the reciprocal of this makes every sum over
// samples an unbiased estimate of the sum over all blocks, whatever their sizes.
//
// The functions are pure. They compute with approximations of their own: the allocator links nothing but the C library,
// and the functions of its mathematical part are elsewhere.
#ifndef HAKMEM_PROF_SAMPLE_DISTANCE_H_
#define HAKMEM_PROF_SAMPLE_DISTANCE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The natural logarithm of x, which is normal and above 0. The relative error is below 1e-14, except near 1, where the
// absolute error is below 1e-16.
double hak_sample_log(double x);
// 1 - e^(-x) for x >= 0. The relative error is below 1e-14.
double hak_sample_chance(double x);

// 64 random bits; *state is any number, and changes.
uint64_t hak_sample_random(uint64_t *state);

// How many bytes are allocated before the next sampled one. 0 with `mean` 0: every block is sampled.
uint64_t hak_sample_distance(uint64_t *state, uint64_t mean);

// What a sample of a block of `size` bytes stands for, in blocks; times `size` in bytes. A block of 0 bytes is sampled
// like one of 1 byte.
double hak_sample_weight(uint64_t size, uint64_t mean);

// The same in bytes, as a whole number: less than one byte off.
HAK_INLINE uint64_t hak_sample_weighted_bytes(double weight, uint64_t size) {
  return (uint64_t)(weight * (double)size + 0.5);
}

// How many bytes a block of `size` bytes takes of the distance.
HAK_INLINE uint64_t hak_sample_bytes(uint64_t size) { return size != 0 ? size : 1; }

HAK_C_END

#endif  // HAKMEM_PROF_SAMPLE_DISTANCE_H_
