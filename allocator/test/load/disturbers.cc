// SPDX-License-Identifier: Apache-2.0
//
// What disturbs the workers of the load: forks, trims, settings, signals, statistics.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "allocator/test/load/load.h"
#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

Load *g_load;
// volatile sig_atomic_t: a thread's handler reads what the thread itself wrote.
thread_local volatile sig_atomic_t t_inside = 0;

void Handler(int) {
  const int saved = errno;
  g_load->counters.signals.fetch_add(1, std::memory_order_relaxed);
  if (t_inside != 0) {
    g_load->counters.signals_inside.fetch_add(1, std::memory_order_relaxed);
  } else {
    // Between calls a handler may allocate as any code may.
    const uint64_t random = Mix64(reinterpret_cast<uintptr_t>(&saved) + g_load->counters.signals.load());
    FreeBlock(g_load, NewBlock(g_load, random), random);
  }
  errno = saved;
}

bool Stopped(const Load *load) { return load->stop.load(std::memory_order_relaxed); }

// What a child does with the heap that it got: the blocks in the slots are whole, and it can do everything.
int LiveAsChild(Load *load, uint64_t seed) {
  alarm(120);  // a child that hangs ends, and is a fault
  Random random(seed);
  for (int i = 0; i < 300; ++i) {
    std::atomic<void *> &slot = load->slots[random.Index(Load::kSlots)];
    void *block = slot.load(std::memory_order_acquire);
    // Nobody else is in the child; but its parent's workers may have been about to write or free what they just took
    // out of a slot, so only blocks in slots are looked at.
    if (block != nullptr) {
      FreeBlock(load, block, random.Next());
      slot.store(nullptr, std::memory_order_relaxed);
    }
    FreeBlock(load, NewBlock(load, random.Next()), random.Next());
  }
  if (random.OneIn(4)) hak_trim(0);
  return load->counters.faults.load() == 0 && load->planted != Planted::kChildFails ? 0 : 1;
}

// Sets a value; the errors that the documentation gives for this setting are allowed.
void Set(Load *load, const char *name, const std::string &value, bool may_be_invalid = false) {
  int error;
  {
    const InsideCall inside;
    error = hak_config_set(name, value.c_str());
  }
  if (IsFastBuild() ? error == EPERM : error == 0 || error == ENOMEM || (may_be_invalid && error == EINVAL)) {
    load->counters.settings.fetch_add(1, std::memory_order_relaxed);
  } else {
    Wrong(load, name, static_cast<uint64_t>(error));
  }
}

}  // namespace

InsideCall::InsideCall() { t_inside = t_inside + 1; }
InsideCall::~InsideCall() { t_inside = t_inside - 1; }
void StayInside() { t_inside = t_inside + 1; }

void RunForks(Load *load, uint64_t seed) {
  Random random(seed);
  while (!Stopped(load)) {
    const uint64_t of_child = random.Next();
    const uint64_t faults = load->counters.faults.load();
    pid_t child;
    {
      const InsideCall inside;
      child = fork();
    }
    if (child == 0) {
      load->counters.faults.fetch_sub(faults);  // the parent's
      _exit(LiveAsChild(load, of_child));
    }
    int status = 0;
    if (child < 0) {
      Wrong(load, "fork", static_cast<uint64_t>(errno));
    } else {
      while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
    }
    if (status != 0) Wrong(load, "a child ended with this status", static_cast<uint64_t>(status));
    load->counters.forks.fetch_add(1, std::memory_order_relaxed);
    SleepMs(static_cast<long>(random.Below(50)));
  }
  StayInside();
}

void RunTrims(Load *load, uint64_t seed) {
  Random random(seed);
  while (!Stopped(load)) {
    {
      const InsideCall inside;
      if (random.OneIn(4)) hak_thread_flush();
      hak_trim(random.OneIn(2) ? 0 : random.Index(size_t{64} << 20));
    }
    if (load->planted == Planted::kNoTrims) return StayInside();
    load->counters.trims.fetch_add(1, std::memory_order_relaxed);
    SleepMs(static_cast<long>(random.Below(30)));
  }
  StayInside();
}

void RunSettings(Load *load, uint64_t seed) {
  Random random(seed);
  const char *const presets[] = {"balanced", "speed", "lean"};
  const char *const switches[] = {"HAKMEM_PAGE_PURGE", "HAKMEM_IDLE_WATCH", "HAKMEM_BORROW", "HAKMEM_BACKGROUND"};
  // ThreadSanitizer lets no child start a purge thread of its own, so there is none: it is the last.
  constexpr size_t kSwitches = HAK_TEST_TSAN ? 3 : 4;
  const char *const numbers[] = {"HAKMEM_DECOMMIT_DEADLINE_MS", "HAKMEM_IDLE_CACHE_MS", "HAKMEM_THREAD_CACHE_KB",
                                 "HAKMEM_MAPPING_CACHE_KB",     "HAKMEM_KEEP_FREE_KB",  "HAKMEM_TOTAL_THREAD_CACHE_KB"};
  while (!Stopped(load)) {
    switch (random.Below(4)) {
      case 0:
        Set(load, "HAKMEM_PROFILE", presets[random.Index(3)]);
        break;
      case 1:
        Set(load, switches[random.Index(kSwitches)], random.OneIn(2) ? "1" : "0");
        break;
      case 2:
        Set(load, numbers[random.Index(6)], std::to_string(random.Below(5000)));
        break;
      default: {
        // A limit a little above what is in use, for a moment; below it is refused.
        uint64_t committed;
        {
          const InsideCall inside;
          committed = Stats().committed_bytes >> 20;
        }
        Set(load, "HAKMEM_MEMORY_LIMIT_MB", std::to_string(committed + 1 + random.Below(8)), true);
        SleepMs(static_cast<long>(random.Below(30)));
        Set(load, "HAKMEM_MEMORY_LIMIT_MB", "0");
      }
    }
    SleepMs(static_cast<long>(random.Below(10)));
  }
  StayInside();
}

size_t CountVisited() {
  size_t visited = 0;
  hak_heap_visit(
      [](const hak_block *, void *count) {
        ++*static_cast<size_t *>(count);
        return true;
      },
      &visited);
  return visited;
}

void RunLooks(Load *load, uint64_t seed) {
  Random random(seed);
  while (!Stopped(load)) {
    {
      const InsideCall inside;
      if (!hak_heap_verify()) Wrong(load, "hak_heap_verify", 0);
      Stats();
      CountVisited();
    }
    load->counters.looks.fetch_add(1, std::memory_order_relaxed);
    SleepMs(static_cast<long>(20 + random.Below(100)));
  }
  StayInside();
}

void InstallHandler(Load *load) {
  g_load = load;
  struct sigaction action = {};
  action.sa_handler = Handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
}

void RunSignals(Load *load, uint64_t seed) {
  Random random(seed);
  // Other threads get them.
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &own, nullptr);
  while (!Stopped(load)) {
    kill(getpid(), SIGUSR1);
    SleepMs(static_cast<long>(random.Below(4)));
  }
  StayInside();
}

}  // namespace hak_test
