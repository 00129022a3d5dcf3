// SPDX-License-Identifier: Apache-2.0
//
// At the kernel's limit on the number of mappings (vm.max_map_count), munmap and mmap fail although there is memory.
// What cannot be unmapped stays the allocator's and is unmapped later. Nothing else changes, nor does errno.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr int kErrnoBefore = 4242;
constexpr uint64_t kMostMappings = 2000000;

int g_wrong = 0;

void Expect(bool good, const char *what, uint64_t detail) {
  if (good) return;
  dprintf(STDERR_FILENO, "%s (%llu)\n", what, static_cast<unsigned long long>(detail));
  g_wrong = 1;
}

uint64_t MappingLimit() {
  uint64_t limit = 0;
  FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
  if (file == nullptr) return 0;
  unsigned long long number = 0;
  if (fscanf(file, "%llu", &number) == 1) limit = number;
  fclose(file);
  return limit;
}

// Creates mappings until the limit is reached: pages of one reservation that differ from both neighbours.
class Crowd {
 public:
  explicit Crowd(uint64_t limit) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), size_((limit + 1000) * page_) {
    start_ = static_cast<char *>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (start_ == MAP_FAILED) _exit(3);
    for (size_t at = page_; at + page_ < size_; at += 2 * page_) {
      if (mprotect(start_ + at, page_, PROT_READ) != 0) {
        reached_ = errno == ENOMEM;
        // The last one or two mappings that are still possible.
        for (int i = 0; i < 4; ++i)
          mmap(nullptr, page_, i % 2 ? PROT_READ : PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return;
      }
    }
  }
  bool reached() const { return reached_; }
  void Leave() { munmap(start_, size_); }

 private:
  size_t page_;
  size_t size_;
  char *start_;
  bool reached_ = false;
};

constexpr size_t kCount = 48;
Stamped g_blocks[4][kCount];  // large, medium and small blocks, and blocks taken at the limit
constexpr size_t kSizes[3] = {1500000, 300000, 20000};

bool Free(Stamped *block) {
  errno = kErrnoBefore;
  const bool good = block->Free();
  Expect(errno == kErrnoBefore, "free set errno", static_cast<uint64_t>(errno));
  return good;
}

int AtTheLimit() {
  const uint64_t limit = MappingLimit();
  hak_trim(0);
  const hak_stats empty = Stats();
  for (size_t kind = 0; kind < 3; ++kind) {
    for (size_t i = 0; i < kCount; ++i) Expect(g_blocks[kind][i].New(kSizes[kind], kind * 100 + i), "malloc", i);
  }
  // The control: the middle of a mapping cannot be unmapped.
  auto *control = static_cast<char *>(mmap(nullptr, 12 << 12, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(control, 12 << 12, PROT_READ | PROT_WRITE);
  Crowd crowd(limit);
  Expect(crowd.reached(), "the limit was not reached", limit);
  Expect(munmap(control + (4 << 12), 1 << 12) != 0 && errno == ENOMEM, "munmap should have failed", 0);

  // Frees every second block. Memory between live blocks can only be unmapped by splitting a mapping.
  for (size_t kind = 0; kind < 3; ++kind) {
    for (size_t i = 1; i < kCount; i += 2) Expect(Free(&g_blocks[kind][i]), "contents", kind);
  }
  errno = kErrnoBefore;
  hak_thread_flush();
  hak_trim(0);
  Expect(errno == kErrnoBefore, "trim set errno", static_cast<uint64_t>(errno));
  Expect(hak_heap_verify(), "verify after freeing at the limit", 0);
  const hak_stats at_limit = Stats();
  Expect(at_limit.live_blocks == empty.live_blocks + 3 * kCount / 2, "live blocks", at_limit.live_blocks);
  // The memory of what could not be unmapped was returned; only addresses remain.
  Expect(at_limit.committed_bytes < at_limit.mapped_bytes, "nothing stayed mapped", at_limit.mapped_bytes);

  // Requests either succeed with existing memory or fail.
  uint64_t met = 0;
  for (size_t i = 0; i < kCount; ++i) {
    errno = kErrnoBefore;
    const bool got = g_blocks[3][i].New(i % 3 == 0 ? 3000000 + i * 4096 : kSizes[i % 3], 1000 + i);
    Expect(got ? errno == kErrnoBefore : errno == ENOMEM, "errno of a request", static_cast<uint64_t>(errno));
    met += got;
  }
  Expect(met > kCount / 3, "requests met from freed memory", met);
  for (size_t i = 0; i < kCount; ++i) {
    if (g_blocks[3][i].p == nullptr) continue;
    errno = kErrnoBefore;
    void *moved = hak_realloc(g_blocks[3][i].p, g_blocks[3][i].size + 4000000);
    Expect(moved != nullptr ? errno == kErrnoBefore : errno == ENOMEM, "errno of realloc",
           static_cast<uint64_t>(errno));
    if (moved != nullptr) g_blocks[3][i].p = static_cast<unsigned char *>(moved);
    Expect(g_blocks[3][i].IsIntact(), "contents after realloc", i);
  }
  Expect(hak_heap_verify(), "verify after requests at the limit", 0);

  crowd.Leave();
  for (size_t kind = 0; kind < 3; ++kind) {
    for (size_t i = 1; i < kCount; i += 2) Expect(g_blocks[kind][i].New(kSizes[kind], i), "malloc afterwards", i);
  }
  for (auto &blocks : g_blocks) {
    for (Stamped &block : blocks) Expect(Free(&block), "contents at the end", 0);
  }
  hak_thread_flush();
  hak_trim(0);
  hak_trim(0);
  Expect(hak_heap_verify(), "verify at the end", 0);
  const hak_stats end = Stats();
  Expect(end.live_blocks == empty.live_blocks, "live blocks at the end", end.live_blocks);
  // Signed, because the memory of records may have been returned too.
  const auto committed = [](const hak_stats &stats) {
    return static_cast<int64_t>(stats.committed_bytes) - static_cast<int64_t>(stats.metadata_bytes);
  };
  Expect(committed(end) <= committed(empty) + 65536, "committed at the end", end.committed_bytes);
  Expect(end.superslabs <= empty.superslabs, "superslabs at the end", end.superslabs);
  Expect(end.mapped_bytes - end.metadata_bytes <= empty.mapped_bytes - empty.metadata_bytes + 65536,
         "mapped at the end", end.mapped_bytes);
  dprintf(STDOUT_FILENO, "at the limit: mapped %llu committed %llu, %llu of %zu requests met\n",
          static_cast<unsigned long long>(at_limit.mapped_bytes),
          static_cast<unsigned long long>(at_limit.committed_bytes), static_cast<unsigned long long>(met), kCount);
  _exit(g_wrong);
}

TEST(MappingLimit, KeepsWhatItCannotUnmap) {
#if HAK_TEST_ASAN || HAK_TEST_TSAN
  GTEST_SKIP() << "a sanitizer's runtime needs mappings of its own";
#endif
  const uint64_t limit = MappingLimit();
  if (limit == 0 || limit > kMostMappings) {
    GTEST_SKIP() << "SKIPPED: vm.max_map_count is " << limit << ", too many to reach";
  }
  const Outcome outcome = RunForked(AtTheLimit, 60);
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "") << outcome;
  printf("%s", outcome.out.c_str());
}

}  // namespace
}  // namespace hak_test
