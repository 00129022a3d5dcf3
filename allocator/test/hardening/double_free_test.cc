// SPDX-License-Identifier: Apache-2.0
//
// The same thread frees a block of any size twice, at once and later, while the allocator has memory to return or none:
// the second call ends the process. FAST does not look for it in small blocks.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include <vector>

#include "allocator/os/base.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;
const size_t kSizes[] = {100, 5000, 40000, 100000, 300000, kMebibyte, 3 * kMebibyte};

char *New(size_t size) { return static_cast<char *>(hak_malloc(size)); }

// From now on the allocator has memory to return, and looks for the time to do so.
void MakeMemoryDue() {
  std::vector<char *> blocks;
  for (int i = 0; i < 64; ++i) {
    blocks.push_back(New(kMebibyte));
    memset(blocks.back(), 1, kMebibyte);
  }
  for (char *block : blocks) hak_free(block);
}

// `calls` decides at which of the calls the clock is read.
int FreeTwice(size_t size, bool due, int calls, int between) {
  if (due) MakeMemoryDue();
  for (int i = 0; i < calls; ++i) hak_free(New(16));
  // Volatile: the compiler shall not see that the block is freed already.
  char *volatile block = New(size);
  hak_free(block);
  for (int i = 0; i < between; ++i) hak_free(New(16));
  hak_free(block);
  return 0;
}

TEST(DoubleFree, IsSeenWhateverIsDue) {
  for (const size_t size : kSizes) {
    if (HAK_FAST && size < 32768) continue;
    for (const bool due : {false, true}) {
      for (int calls = 0; calls < 12; ++calls) {
        const int between = calls % 3;
        const Outcome outcome = RunForked([=] { return FreeTwice(size, due, calls, between); });
        EXPECT_EQ(outcome.signal, SIGABRT) << size << ' ' << due << ' ' << calls << ' ' << outcome;
        EXPECT_EQ(outcome.err.find("hakmem: "), 0u) << outcome;
      }
    }
  }
}

}  // namespace
}  // namespace hak_test
