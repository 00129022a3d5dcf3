// SPDX-License-Identifier: Apache-2.0
//
// Distances and weights of samples.
#include "allocator/prof/sample_distance.h"

#include "allocator/os/bytes.h"

#define LN_2 0.69314718055994530942
#define SQRT_2 1.41421356237309504880
#define MANTISSA_BITS 52u
#define MANTISSA_MASK (((uint64_t)1 << MANTISSA_BITS) - 1)
#define EXPONENT_OF_1 1023u

static uint64_t bits_of(double x) {
  uint64_t bits;
  hak_bytes_copy(&bits, &x, sizeof bits);
  return bits;
}

static double of_bits(uint64_t bits) {
  double x;
  hak_bytes_copy(&x, &bits, sizeof x);
  return x;
}

// x = 2^k * m with m around 1; log(m) is twice the area tangent of (m - 1) / (m + 1), whose series converges fast.
double hak_sample_log(double x) {
  const uint64_t bits = bits_of(x);
  int k = (int)(bits >> MANTISSA_BITS) - (int)EXPONENT_OF_1;
  double m = of_bits((bits & MANTISSA_MASK) | (uint64_t)EXPONENT_OF_1 << MANTISSA_BITS);
  if (m > SQRT_2) {
    m /= 2;
    k++;
  }
  const double s = (m - 1) / (m + 1);
  const double square = s * s;
  double sum = 0;
  // |s| < 0.1716: the first term that is left out is below 1e-18 of the first one.
  for (int n = 23; n >= 3; n -= 2) sum = (sum + 1.0 / n) * square;
  return k * LN_2 + 2 * (s + s * sum);
}

// The series of e^y - 1 for |y| <= 0.5.
static double small_exp_minus_1(double y) {
  double sum = 1;
  for (int n = 18; n >= 2; n--) sum = 1 + sum * y / n;
  return y * sum;
}

double hak_sample_chance(double x) {
  if (x < 0.5) return -small_exp_minus_1(-x);
  if (x > 64) return 1;
  // e^(-x) = 2^-k * e^(-rest) with |rest| <= ln(2) / 2.
  const uint64_t k = (uint64_t)(x / LN_2 + 0.5);
  const double rest = x - (double)k * LN_2;
  return 1 - of_bits((EXPONENT_OF_1 - k) << MANTISSA_BITS) * (1 + small_exp_minus_1(-rest));
}

// SplitMix64: every state is good, and neighbouring states give independent numbers.
uint64_t hak_sample_random(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t hak_sample_distance(uint64_t *state, uint64_t mean) {
  if (mean == 0) return 0;
  // In (0, 1]: never 0, whose logarithm is infinite.
  const double uniform =
      (double)((hak_sample_random(state) >> 11) + 1) * of_bits((EXPONENT_OF_1 - 53ull) << MANTISSA_BITS);
  // Rounded down: the sampled byte is the one in which the distance ends.
  return (uint64_t)(-hak_sample_log(uniform) * (double)mean);
}

double hak_sample_weight(uint64_t size, uint64_t mean) {
  if (mean == 0) return 1;
  return 1 / hak_sample_chance((double)hak_sample_bytes(size) / (double)mean);
}
