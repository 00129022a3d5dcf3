// SPDX-License-Identifier: Apache-2.0
//
// Random numbers for tests. Each run of a test draws a seed and prints it. The environment repeats or lengthens a run:
//   HAK_TEST_SEED   the seed of an earlier run, any number that strtoull reads (default: a new one)
//   HAK_TEST_SCALE  multiplies the number of operations (default 1)
#ifndef HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_
#define HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

// True in builds whose memory accesses are several times as slow.
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
  // A number in [0, n); n > 0. The bias is negligible for the small n used here.
  uint64_t Below(uint64_t n) { return Next() % n; }
  size_t Index(size_t n) { return static_cast<size_t>(Below(n)); }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};

// A number from the environment. Ends the test if the value is not a number.
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

// The seed of this run: from the environment, otherwise drawn by the first call, which prints it and sets it in the
// environment for the programs that this one starts. The child of a fork has its parent's seed if the parent has drawn
// it. A test that forks while it has threads must call this first: if another thread were drawing the seed during the
// fork, the child would wait for that thread forever.
inline uint64_t RunSeed() {
  static const uint64_t seed = [] {
    const char *given = getenv("HAK_TEST_SEED");
    if (given != nullptr && *given != '\0') return NumberFromEnv("HAK_TEST_SEED", 0);
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t moment = static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
    char text[24];
    snprintf(text, sizeof text, "%u",
             static_cast<unsigned>(Mix64(moment + Mix64(static_cast<uint64_t>(getpid()))) >> 32));
    fprintf(stderr, "HAK_TEST_SEED=%s repeats this run's random choices\n", text);
    setenv("HAK_TEST_SEED", text, 1);
    return NumberFromEnv("HAK_TEST_SEED", 0);
  }();
  return seed;
}

// The seed of one sequence of random choices in this run. Sequences with different numbers do not overlap.
inline uint64_t TestSeed(uint64_t sequence) { return Mix64(RunSeed()) + Mix64(sequence); }

inline uint64_t Scaled(uint64_t operations) {
  const uint64_t scale = NumberFromEnv("HAK_TEST_SCALE", 1);
  return kSlowBuild ? operations * scale / 4 : operations * scale;
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_TEST_RANDOM_H_
