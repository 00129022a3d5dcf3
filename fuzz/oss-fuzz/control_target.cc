// SPDX-License-Identifier: Apache-2.0
//
// A small fuzz target for the test of the build check: large enough to pass it, and broken in one way if BROKEN_... is
// defined.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// Each step has a branch, two checked accesses and a sum that could overflow.
#define STEP(n) \
  if (size > (n) && data[n] == (n) % 251) sums[data[n] % 16] += (n) + data[(n) / 2] * sums[(n) % 16];
#define STEPS_8(n) STEP(n) STEP(n + 1) STEP(n + 2) STEP(n + 3) STEP(n + 4) STEP(n + 5) STEP(n + 6) STEP(n + 7)
#define STEPS_64(n) \
  STEPS_8(n)        \
  STEPS_8(n + 8) STEPS_8(n + 16) STEPS_8(n + 24) STEPS_8(n + 32) STEPS_8(n + 40) STEPS_8(n + 48) STEPS_8(n + 56)

static int sums[16];

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
#ifdef BROKEN_CRASH
  abort();
#endif
#ifdef BROKEN_EXIT
  exit(0);
#endif
#ifdef BROKEN_PRINTS
  if (size > 0) printf("%zu bytes\n", size);
#endif
#ifdef BROKEN_SEED
  if (size == 4 && data[0] == 's') abort();
#endif
#ifdef BROKEN_FILE
  fclose(fopen("trace", "w"));
#endif
  for (int &sum : sums) sum = 0;
  STEPS_64(0)
  STEPS_64(64)
  return 0;
}
