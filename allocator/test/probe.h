// SPDX-License-Identifier: Apache-2.0
//
// What tests of returned memory share: questions to the allocator and the kernel, waiting without a fixed time, and
// blocks whose contents are checked.
#ifndef HAKMEM_ALLOCATOR_TESTS_PROBE_H_
#define HAKMEM_ALLOCATOR_TESTS_PROBE_H_

#include <dirent.h>
#include <fcntl.h>
#include <hakmem/hakmem.h>
#include <linux/membarrier.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "allocator/test/test_random.h"

namespace hak_test {

inline hak_stats Stats() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  if (hak_stats_get(&stats) != 0) abort();
  return stats;
}

// FAST builds do not read the environment; their settings are those of the preset balanced.
inline bool IsFastBuild() { return strstr(hak_version(), " fast ") != nullptr; }

// HARDENED: the next block is chosen at random, and freed blocks wait in a quarantine.
inline bool IsHardenedBuild() { return strstr(hak_version(), " hardened ") != nullptr; }

// Without a barrier no thread empties another thread's cache.
inline bool HasBarrier() {
  const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  return commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
}

// The process's resident memory; 0 if /proc cannot be read. Allocates nothing.
inline uint64_t ResidentBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  const char *second = length > 0 ? strchr(text, ' ') : nullptr;
  return second == nullptr ? 0 : strtoull(second, nullptr, 10) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

inline void SleepMs(long ms) {
  const timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, nullptr);
}

// Waits until the condition is true, checking it every `pause_ms`. False: it was not true for `seconds`.
template <typename Condition>
bool WaitUntil(Condition condition, int seconds = 10, long pause_ms = 10) {
  timespec begin;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (;;) {
    if (condition()) return true;
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - begin.tv_sec > seconds) return false;
    SleepMs(pause_ms);
  }
}

// The number after "NAME=" at the beginning of a line; UINT64_MAX if there is none.
inline uint64_t NumberOf(const std::string &text, const std::string &name) {
  const std::string wanted = "\n" + name + "=";
  const size_t at = ("\n" + text).find(wanted);
  return at == std::string::npos ? UINT64_MAX : strtoull(text.c_str() + at + wanted.size() - 1, nullptr, 10);
}

// The id of the purge thread; 0 if there is none.
inline int PurgeThread() {
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == nullptr) return 0;
  int found = 0;
  while (const dirent *entry = readdir(tasks)) {
    const std::string path = std::string("/proc/self/task/") + entry->d_name + "/comm";
    char name[32] = {};
    FILE *file = fopen(path.c_str(), "r");
    if (file == nullptr) continue;
    if (fgets(name, sizeof name, file) != nullptr && strcmp(name, "hakmem-purge\n") == 0) found = atoi(entry->d_name);
    fclose(file);
  }
  closedir(tasks);
  return found;
}

// A block from the allocator whose bytes are a hash of its number and the offset.
struct Stamped {
  unsigned char *p = nullptr;
  size_t size = 0;
  uint64_t id = 0;

  // False: out of memory.
  bool New(size_t bytes, uint64_t number) {
    p = static_cast<unsigned char *>(hak_malloc(bytes));
    size = bytes;
    id = number;
    if (p == nullptr) return false;
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = Word(i);
      memcpy(p + i, &word, size - i < 8 ? size - i : 8);
    }
    return true;
  }
  bool IsIntact() const {
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = Word(i);
      if (memcmp(p + i, &word, size - i < 8 ? size - i : 8) != 0) return false;
    }
    return true;
  }
  // Frees the block. False: its contents have changed.
  bool Free() {
    const bool good = p == nullptr || IsIntact();
    hak_free(p);
    p = nullptr;
    return good;
  }

 private:
  uint64_t Word(size_t offset) const { return Mix64(id * 0x9e3779b97f4a7c15U + offset); }
};

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_PROBE_H_
