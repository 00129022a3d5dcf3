// SPDX-License-Identifier: Apache-2.0
//
// Random numbers that are the same on every machine, and the seed and length of a run from the environment:
//   HAK_TEST_SEED   first seed (default: the test's own), any number strtoull reads
//   HAK_TEST_SCALE  multiplies the number of operations (default 1)
#ifndef HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_
#define HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_THREAD__)
#define HAK_TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAK_TEST_TSAN 1
#endif
#endif
#ifndef HAK_TEST_TSAN
#define HAK_TEST_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define HAK_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAK_TEST_ASAN 1
#endif
#endif
#ifndef HAK_TEST_ASAN
#define HAK_TEST_ASAN 0
#endif

namespace hak_test {

// True in builds whose every access costs several times as much.
inline constexpr bool kSlowBuild = HAK_TEST_TSAN != 0 || HAK_TEST_ASAN != 0;

inline uint64_t Mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(Mix64(seed + 1)) {}
  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15U;
    return Mix64(state_);
  }
  // A number in [0, n); n > 0. The bias is of no weight for the small n used here.
  uint64_t Below(uint64_t n) { return Next() % n; }
  size_t Index(size_t n) { return static_cast<size_t>(Below(n)); }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};

// A number from the environment; a value that is no number ends the test rather than running it on another one.
inline uint64_t NumberFromEnv(const char *name, uint64_t fallback) {
  const char *text = getenv(name);
  if (text == nullptr || *text == '\0') return fallback;
  char *end = nullptr;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 0);
  if (errno != 0 || *end != '\0') {
    fprintf(stderr, "%s=%s: expected an unsigned number\n", name, text);
    exit(2);
  }
  return value;
}

inline uint64_t TestSeed(uint64_t fallback) { return NumberFromEnv("HAK_TEST_SEED", fallback); }

inline uint64_t Scaled(uint64_t operations) {
  const uint64_t scale = NumberFromEnv("HAK_TEST_SCALE", 1);
  return kSlowBuild ? operations * scale / 4 : operations * scale;
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_
