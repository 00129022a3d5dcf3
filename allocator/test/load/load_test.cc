// SPDX-License-Identifier: Apache-2.0
//
// Runs the load for a while, then judges: nothing was wrong, the heap verifies, the counts add up exactly, and memory
// goes back to what the preset keeps.
//
//   load_test [--seconds=30] [--threads=64]   the load
//   load_test --controls                      short loads with a planted bug each, which must be found
#include "allocator/test/load/load.h"

#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

unsigned long long Print(uint64_t number) { return number; }

void Expect(Load *load, bool holds, const char *what, uint64_t detail) {
  if (!holds) Wrong(load, what, detail);
}

// All threads have ended.
void Judge(Load *load, uint64_t resident_before) {
  const Counters &counters = load->counters;
  Expect(load, hak_heap_verify(), "hak_heap_verify at the end", 0);
  uint64_t held = 0;
  for (const std::atomic<void *> &slot : load->slots) held += slot.load() != nullptr ? 1 : 0;
  const uint64_t live = Stats().live_blocks;
  Expect(load, counters.allocated - counters.freed == held, "allocated - freed differs from the blocks held", held);
  Expect(load, live == held, "the statistics show other live blocks", live);
  Expect(load, CountVisited() == held, "a visit shows other live blocks", CountVisited());
  printf("load: live %llu\n", Print(live));

  Random random(TestSeed(99));
  for (std::atomic<void *> &slot : load->slots) FreeBlock(load, slot.exchange(nullptr), random.Next());
  if (!IsFastBuild()) {
    hak_config_set("HAKMEM_BACKGROUND", "0");
    WaitUntil([] { return PurgeThread() == 0; });
  }
  hak_thread_flush();
  // Blocks that stay live without being held keep their pages committed.
  if (load->planted == Planted::kMemoryKept) {
    for (int i = 0; i < 40; ++i) memset(hak_malloc(1000000), 1, 1000000);
  }
  hak_trim(0);
  Expect(load, hak_heap_verify(), "hak_heap_verify without a block", 0);
  const hak_stats stats = Stats();
  Expect(load, stats.live_blocks == 0 && stats.live_bytes == 0, "blocks live after all were freed", stats.live_blocks);
  Expect(load, CountVisited() == 0, "a visit shows blocks after all were freed", CountVisited());
  // A trim keeps nothing of the blocks' memory. Records of 64 and more threads are below this.
  constexpr uint64_t kRecords = uint64_t{16} << 20;
  Expect(load, stats.committed_bytes <= kRecords, "committed after the trim", stats.committed_bytes);
  const uint64_t resident = ResidentBytes();
  // A sanitizer's own memory stays.
  if (!kSlowBuild) {
    Expect(load, resident <= resident_before + kRecords, "resident after the trim", resident);
  }
  printf("load: committed %llu, metadata %llu, resident %llu before, %llu after\n", Print(stats.committed_bytes),
         Print(stats.metadata_bytes), Print(resident_before), Print(resident));
}

// Every part of the load did something.
void ExpectActivity(Load *load) {
  const Counters &counters = load->counters;
  const struct {
    const char *name;
    uint64_t count;
  } parts[] = {{"blocks", counters.allocated}, {"resized", counters.moved}, {"threads", counters.threads},
               {"forks", counters.forks},      {"trims", counters.trims},   {"settings", counters.settings},
               {"signals", counters.signals},  {"looks", counters.looks}};
  printf("load:");
  for (const auto &part : parts) {
    printf(" %s %llu", part.name, Print(part.count));
    Expect(load, part.count > 0, part.name, 0);
  }
  printf(" refused %llu signals-inside %llu\n", Print(counters.refused), Print(counters.signals_inside));
}

int Run(uint64_t seconds, uint64_t threads, Planted planted) {
  const auto load = std::make_unique<Load>();
  load->planted = planted;
  const uint64_t resident_before = ResidentBytes();
  printf("build: %s%s\n", hak_version(), HAK_TEST_TSAN ? " tsan" : HAK_TEST_ASAN ? " asan" : "");
  TestSeed(0);  // drawn before there are threads
  InstallHandler(load.get());
  std::vector<std::thread> all;
  for (uint64_t i = 0; i < threads; ++i) all.emplace_back(RunWorkers, load.get(), TestSeed(i + 100));
  uint64_t sequence = 0;
  for (const auto run : {RunForks, RunTrims, RunSettings, RunLooks, RunSignals}) {
    all.emplace_back(run, load.get(), TestSeed(++sequence));
  }
  const Counters &counters = load->counters;
  WaitUntil([&] { return counters.faults > 0; }, static_cast<int>(seconds), 100);
  // On a busy machine some part may need longer for its first step.
  WaitUntil([&] { return counters.forks > 0 && counters.looks > 0 && counters.threads > 0 && counters.signals > 0; },
            60);
  StayInside();
  load->stop = true;
  for (std::thread &thread : all) thread.join();
  ExpectActivity(load.get());
  Judge(load.get(), resident_before);
  printf("load: %llu s, %llu threads, %llu faults\n", Print(seconds), Print(threads), Print(counters.faults));
  return counters.faults == 0 ? 0 : 1;
}

// Each planted bug makes a load fail, with the line that belongs to it.
int RunControls() {
  const struct {
    const char *planted;
    const char *line;
  } controls[] = {{"--planted=1", "load: allocated - freed differs from the blocks held"},
                  {"--planted=2", "load: a block's contents changed"},
                  {"--planted=3", "load: committed after the trim"},
                  {"--planted=4", "load: NULL without ENOMEM"},
                  {"--planted=5", "load: a child ended with this status"},
                  {"--planted=6", "load: trims"}};
  static_assert(sizeof controls / sizeof *controls + 1 == static_cast<size_t>(Planted::kEnd), "one for each");
  int missed = 0;
  for (const auto &control : controls) {
    const Outcome outcome = RunSelf({control.planted, "--seconds=1", "--threads=8"}, {}, 200);
    const bool found = outcome.exit_code == 1 && outcome.err.find(control.line) != std::string::npos;
    printf("%s %s: %s\n", found ? "found" : "MISSED", control.planted, control.line);
    if (!found) std::cerr << outcome << "\n";
    missed += found ? 0 : 1;
  }
  return missed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  unsigned long long seconds = 30;
  unsigned long long threads = 64;
  unsigned planted = 0;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--controls") == 0) return hak_test::RunControls();
    if (sscanf(argv[i], "--seconds=%llu", &seconds) == 1 || sscanf(argv[i], "--threads=%llu", &threads) == 1 ||
        sscanf(argv[i], "--planted=%u", &planted) == 1) {
      continue;
    }
    fprintf(stderr, "usage: %s [--seconds=30] [--threads=64] | --controls\n", argv[0]);
    return 2;
  }
  return hak_test::Run(seconds, threads, static_cast<hak_test::Planted>(planted));
}
