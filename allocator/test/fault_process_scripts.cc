// SPDX-License-Identifier: Apache-2.0
//
// Scripts of what happens to the whole process while system calls fail: children, ends, settings, statistics.
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "allocator/test/fault_scripts.h"

namespace hak_test {

// ---- What only these scripts do -----------------------------------------------------------------

void Checked::Set(const char *name, const char *value) {
  errno = 0;
  const int error = hak_config_set(name, value);
  // FAST refuses all settings.
  const bool fast = strstr(hak_version(), " fast ") != nullptr;
  const bool usual = fast ? error == EPERM : error == 0 || (error == ENOMEM && hits_() > 0);
  if (!usual) Wrong("hak_config_set", static_cast<size_t>(error));
  if (errno != 0) Wrong("hak_config_set set errno", static_cast<size_t>(errno));
}

void Checked::Count() {
  errno = 0;
  size_t visited = 0;
  const auto visit = [](const hak_block *block, void *context) {
    if (block->usable_size > 0) ++*static_cast<size_t *>(context);
    return true;
  };
  api_.heap_visit(visit, &visited);
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  if (api_.stats_get(&stats) != 0) Wrong("hak_stats_get", 0);
  if (visited != held_.size()) Wrong("hak_heap_visit shows other blocks", visited);
  if (stats.live_blocks != held_.size()) Wrong("the statistics show other blocks", stats.live_blocks);
  if (errno != 0) Wrong("statistics set errno", 0);
}

void Checked::InChild(long child, const std::function<void()> &body, bool by_exit) {
  if (child < 0) return Wrong("no child", static_cast<size_t>(errno));
  if (child == 0) {
    alarm(20);  // a child that hangs ends, and is reported
    body();
    if (by_exit) exit(wrong_ ? 1 : 0);
    Verify();
    _exit(wrong_ ? 1 : 0);
  }
  int status = 0;
  while (waitpid(static_cast<pid_t>(child), &status, 0) < 0) {
    if (errno != EINTR) return Wrong("waitpid", 0);
  }
  if (status != 0) Wrong("a child ended with this status", static_cast<size_t>(status));
}

// ---- Scripts ------------------------------------------------------------------------------------

namespace {

void MixedBlocks(Checked *heap) {
  for (size_t i = 0; i < 60; ++i) heap->Malloc(16 + i * 97 % 3000);
  heap->Malloc(100000);
  heap->Malloc(700000);
}

// What a child does: with what it inherited, and with memory of its own.
void LiveOn(Checked *heap) {
  heap->FreeEvery(2);
  MixedBlocks(heap);
  heap->Realloc(0, 70000);
  heap->FreeEvery(3);
  heap->FlushAndTrim();
  heap->Calloc(400000);
}

void Fork(Checked *heap) {
  MixedBlocks(heap);
  heap->InChild(fork(), [heap] {
    LiveOn(heap);
    heap->InChild(fork(), [heap] { LiveOn(heap); });
    heap->FreeEvery(1);
  });
  heap->FreeEvery(3);
  heap->FlushAndTrim();
}

// Another thread has a heap with blocks, which the child inherits without the thread.
template <typename MakeChild>
void ChildAmongThreads(Checked *heap, const MakeChild &make_child) {
  std::promise<void> filled;
  std::promise<void> done;
  std::thread other([&] {
    MixedBlocks(heap);
    heap->FreeEvery(2);
    filled.set_value();
    done.get_future().wait();
    heap->FreeEvery(2);
  });
  filled.get_future().wait();
  heap->Malloc(300);
  heap->InChild(make_child(), [heap] {
    LiveOn(heap);
    heap->FreeEvery(1);
    heap->FlushAndTrim();
    MixedBlocks(heap);
  });
  done.set_value();
  other.join();
  heap->FlushAndTrim();
}

void ForkAmongThreads(Checked *heap) { ChildAmongThreads(heap, fork); }

// A child of which no fork handler knows.
void RawClone(Checked *heap) {
  ChildAmongThreads(heap, [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); });
}

// A child ends by exit() while blocks are live, freed ones are in caches and another thread's frees wait.
void Exit(Checked *heap) {
  MixedBlocks(heap);
  const bool by_exit = true;
  heap->InChild(
      fork(),
      [heap] {
        MixedBlocks(heap);
        std::thread([heap] { heap->FreeEvery(3); }).join();
        heap->FreeEvery(2);
      },
      by_exit);
}

pthread_key_t g_key;

// Destructors allocate while their thread ends: in the first rounds, and in the last, when the heap is closed.
void UseInDestructor(void *context) {
  auto *heap = static_cast<Checked *>(context);
  static int rounds;
  heap->Malloc(700);
  heap->Malloc(120000);
  heap->FreeEvery(2);
  if (++rounds % PTHREAD_DESTRUCTOR_ITERATIONS != 0) pthread_setspecific(g_key, heap);
}

void ThreadEnd(Checked *heap) {
  if (pthread_key_create(&g_key, UseInDestructor) != 0) return heap->Wrong("no key", 0);
  for (int t = 0; t < 2; ++t) {
    std::thread([heap] {
      pthread_setspecific(g_key, heap);
      MixedBlocks(heap);
      heap->FreeEvery(2);
    }).join();
  }
  heap->FlushAndTrim();
}

void Settings(Checked *heap) {
  for (const char *preset : {"speed", "lean", "balanced"}) {
    MixedBlocks(heap);
    heap->FreeEvery(2);
    heap->Set("HAKMEM_PROFILE", preset);
    heap->FlushAndTrim();
  }
  heap->Set("HAKMEM_MEMORY_LIMIT_MB", "4096");
  MixedBlocks(heap);
  heap->Set("HAKMEM_MEMORY_LIMIT_MB", "0");
  heap->FreeEvery(2);
}

void Statistics(Checked *heap) {
  for (int round = 0; round < 2; ++round) {
    MixedBlocks(heap);
    heap->Count();
    heap->FreeEvery(2);
    heap->FlushAndTrim();
    heap->Count();
  }
}

}  // namespace

const std::vector<Script> &ProcessScripts() {
  // The last three start threads and do not count as scripts with threads: ThreadSanitizer follows no raw clone and no
  // thread of a child, and has forgotten a thread before the last round of its destructors.
  static const std::vector<Script> *const scripts = new std::vector<Script>{
      {"Fork", Fork},           {"ForkAmongThreads", ForkAmongThreads, true},
      {"Settings", Settings},   {"Statistics", Statistics},
      {"RawClone", RawClone},   {"Exit", Exit},
      {"ThreadEnd", ThreadEnd},
  };
  return *scripts;
}

}  // namespace hak_test
