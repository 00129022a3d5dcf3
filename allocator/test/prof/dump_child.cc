// SPDX-License-Identifier: Apache-2.0
//
// usage: dump_child PATTERN                  samples every block, holds and frees some, and writes profiles
//        dump_child fragmented PATTERN       leaves free blocks between live ones, and writes a profile
//        dump_child growth PATTERN           writes a profile, marks the moment, allocates and frees, and writes
//        another dump_child lifetimes PATTERN        frees blocks at once and after a while, and writes a profile
//
// dump_test.py compares the profiles with what is done here, and with what two forms print: the bytes that are free
// between blocks; the microseconds that a block lives at most, by function.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>
#include <stdio.h>
#include <stdlib.h>

#include <chrono>
#include <string>
#include <thread>

namespace {

constexpr int kHeld = 1000;
constexpr int kDropped = 500;
void *held[kHeld];

// The profile shows their names.
__attribute__((noinline)) void HoldsBlocks() {
  for (void *&block : held) block = hak_malloc(1000);
}
__attribute__((noinline)) void DropsBlocks() {
  for (int i = 0; i < kDropped; i++) hak_free(hak_malloc(777));
}
__attribute__((noinline)) void HoldsALargeBlock() {
  void *volatile large = hak_malloc(3 << 20);
  if (large == nullptr) abort();
}

// A sink may allocate, and a second profile is refused meanwhile.
int Append(void *context, const void *bytes, size_t size) {
  auto *text = static_cast<std::string *>(context);
  text->append(static_cast<const char *>(bytes), size);
  if (hak_prof_dump("not-made") != EBUSY) abort();
  void *block = hak_malloc(100000);
  if (block == nullptr) abort();
  hak_free(block);
  return 0;
}

int Refuse(void *, const void *, size_t) { return ENOSPC; }

constexpr int kBlocks = 40000;

// Every fourth block lives on, with those that were freed around it.
__attribute__((noinline)) void KeepsHostages() {
  void **blocks = static_cast<void **>(malloc(kBlocks * sizeof *blocks));
  for (int i = 0; i < kBlocks; i++) blocks[i] = hak_malloc(600);
  for (int i = 0; i < kBlocks; i++) {
    if (i % 4 != 0) hak_free(blocks[i]);
  }
  free(blocks);
}
// All of its blocks live on, so nothing is free between them.
__attribute__((noinline)) void FillsItsSlabs() {
  for (int i = 0; i < kBlocks / 4; i++) {
    if (hak_malloc(300) == nullptr) abort();
  }
}

int Fragmented(const char *pattern) {
  // Of 40,000 blocks about a seventh is sampled: the estimate is right to 2 %.
  if (hak_config_set("HAKMEM_PROF_SAMPLE_KB", "4") != 0 || hak_prof_start() != 0) return 3;
  KeepsHostages();
  FillsItsSlabs();
  hak_prof_stop();
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  hak_stats_get(&stats);
  printf("%llu\n", static_cast<unsigned long long>(stats.heap_free_bytes));
  return hak_prof_dump(pattern) == 0 ? 0 : 1;
}

// ---- Lifetimes ----------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;

int64_t MicrosecondsSince(Clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count() + 1;
}
void Wait() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

__attribute__((noinline)) void FreesLater() {
  for (int i = 0; i < 100; i++) held[i] = hak_malloc(1000);
  Wait();
  for (int i = 0; i < 100; i++) hak_free(held[i]);
}
// The old block ends where the new one begins, which lives on.
__attribute__((noinline)) void ResizesLater() {
  held[0] = hak_malloc(3 << 20);
  Wait();
  held[0] = hak_realloc(held[0], 9 << 20);
}

int Lifetimes(const char *pattern) {
  if (hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0") != 0 || hak_prof_start() != 0) return 3;
  Clock::time_point begin = Clock::now();
  DropsBlocks();
  printf("%lld ", static_cast<long long>(MicrosecondsSince(begin)));
  begin = Clock::now();
  FreesLater();
  printf("%lld ", static_cast<long long>(MicrosecondsSince(begin)));
  begin = Clock::now();
  ResizesLater();
  printf("%lld\n", static_cast<long long>(MicrosecondsSince(begin)));
  hak_prof_stop();
  if (held[0] == nullptr) abort();
  return hak_prof_dump(pattern) == 0 ? 0 : 1;
}

// ---- Growth -------------------------------------------------------------------------------------

__attribute__((noinline)) void Stays() {
  void *volatile block = hak_malloc(100000);
  if (block == nullptr) abort();
}
__attribute__((noinline)) void Grows(int count) {
  for (int i = 0; i < count; i++) {
    if (hak_malloc(2000) == nullptr) abort();
  }
}

int Growth(const char *pattern) {
  if (hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0") != 0 || hak_prof_start() != 0) return 3;
  HoldsBlocks();
  Stays();
  for (int i = 0; i < 2; i++) Grows(50 + i);
  if (hak_prof_mark() != 0 || hak_prof_dump(pattern) != 0) return 1;
  for (int i = 0; i < 300; i++) hak_free(held[i]);
  for (int i = 0; i < 2; i++) Grows(70 + i);
  DropsBlocks();
  HoldsALargeBlock();
  hak_prof_stop();
  return hak_prof_dump(pattern) == 0 ? 0 : 1;
}

int Expect(int got, int wanted, const char *what) {
  if (got == wanted) return 0;
  fprintf(stderr, "%s: %d instead of %d\n", what, got, wanted);
  return 1;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc == 3 && std::string(argv[1]) == "fragmented") return Fragmented(argv[2]);
  if (argc == 3 && std::string(argv[1]) == "lifetimes") return Lifetimes(argv[2]);
  if (argc == 3 && std::string(argv[1]) == "growth") return Growth(argv[2]);
  if (argc != 2) return 2;
  if (hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0") != 0 || hak_prof_start() != 0) return 3;
  HoldsBlocks();
  DropsBlocks();
  HoldsALargeBlock();
  hak_prof_stop();
  int wrong = Expect(hak_prof_dump(argv[1]), 0, "dump");
  wrong += Expect(hak_prof_dump(argv[1]), 0, "a second file, by its number");
  wrong += Expect(hak_prof_dump(nullptr), EINVAL, "no pattern");
  wrong += Expect(hak_prof_dump("%x"), EINVAL, "an unknown letter");
  wrong += Expect(hak_prof_dump(std::string(5000, 'x').c_str()), EINVAL, "a long path");
  wrong += Expect(hak_prof_dump("no-such-folder/file"), ENOENT, "no folder");
  wrong += Expect(hak_prof_dump("/dev/null"), EEXIST, "something of that name");
  wrong += Expect(hak_prof_write(nullptr, nullptr), EINVAL, "no sink");
  wrong += Expect(hak_prof_write(Refuse, nullptr), ENOSPC, "a sink that refuses");
  std::string text;
  wrong += Expect(hak_prof_write(Append, &text), 0, "write");
  if (text.size() < 100) wrong++;
  for (void *block : held) hak_free(block);
  return wrong == 0 ? 0 : 1;
}
