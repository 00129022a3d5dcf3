// SPDX-License-Identifier: Apache-2.0
//
// Children that the C library's fork handlers do not see: by the system call clone, by _Fork, and by vfork or clone
// with the memory shared; with the override of the C library.
//
//   raw_children_test                   runs every case
//   raw_children_test --child CASE 0    one case
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "allocator/test/life/cases.h"
#include "allocator/test/probe.h"

namespace {

using hak_life::AtMost;
using hak_life::Fail;
using hak_life::kHangSeconds;
using hak_test::SleepMs;
using hak_test::Stats;

std::atomic<bool> g_stop{false};

// Creates children without fork handlers; each of them allocates and ends.
void *CloneChildren(void *) {
  for (int k = 0; k < 100; ++k) {
    const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
      alarm(kHangSeconds);
      void *p[300];
      for (size_t i = 0; i < 300; ++i) p[i] = malloc(100 + i * 60);
      for (void *block : p) free(block);
      void *volatile large = malloc(size_t{2} << 20);
      free(large);
      syscall(SYS_exit_group, 0);
    }
    int status = 0;
    waitpid(static_cast<pid_t>(child), &status, 0);
    if (status != 0) Fail("a raw child's status", static_cast<uint64_t>(status));
  }
  return nullptr;
}

// While other threads hold locks: from a thread that has allocated, and from one that has not.
int RawClones() {
  const auto work = [](void *) -> void * {
    while (!g_stop) {
      void *p[200];
      for (size_t i = 0; i < 200; ++i) p[i] = malloc(16 + i * 40);
      for (void *block : p) free(block);
    }
    return nullptr;
  };
  pthread_t threads[3];
  for (pthread_t &thread : threads) pthread_create(&thread, nullptr, work, nullptr);
  CloneChildren(nullptr);
  pthread_t without_heap;
  pthread_create(&without_heap, nullptr, CloneChildren, nullptr);
  pthread_join(without_heap, nullptr);
  g_stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  return 0;
}

// The same with blocks of the page heap, whose lists other threads are changing at almost any time. The child frees
// blocks that its parent has allocated.
int RawClonesAmongLargeBlocks() {
  const auto work = [](void *seed) -> void * {
    void *held[12] = {};
    uint64_t random = reinterpret_cast<uintptr_t>(seed);
    while (!g_stop) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      void *&slot = held[(random >> 32) % 12];
      free(slot);
      slot = malloc(1100000 + (random >> 40) % 2000000);
    }
    for (void *block : held) free(block);
    return nullptr;
  };
  void *inherited[8];
  for (void *&block : inherited) {
    block = malloc(1500000);
    memset(block, 7, 5000);
  }
  pthread_t threads[2];
  for (uintptr_t i = 0; i < 2; ++i) pthread_create(&threads[i], nullptr, work, reinterpret_cast<void *>(i + 1));
  for (int k = 0; k < 100; ++k) {
    const long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
      alarm(kHangSeconds);
      for (void *block : inherited) {
        if (static_cast<char *>(block)[4999] != 7) syscall(SYS_exit_group, 1);
        free(block);
      }
      char *p[30];
      for (size_t i = 0; i < 30; ++i) {
        p[i] = static_cast<char *>(malloc(40000 + i * 100000));
        if (p[i] == nullptr) syscall(SYS_exit_group, 2);
        memset(p[i], static_cast<int>(i), 40000);
      }
      for (size_t i = 0; i < 30; ++i) {
        if (p[i][39999] != static_cast<char>(i)) syscall(SYS_exit_group, 3);
        free(p[i]);
      }
      syscall(SYS_exit_group, 0);
    }
    int status = 0;
    waitpid(static_cast<pid_t>(child), &status, 0);
    if (status != 0) Fail("a raw child's status", static_cast<uint64_t>(status));
  }
  g_stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  for (void *block : inherited) free(block);
  return 0;
}

std::atomic<int> g_freeing;

// glibc 2.34 and later. Other C libraries cannot create threads in a child of a raw clone.
extern "C" pid_t _Fork() __attribute__((weak));

// A child that was created without fork handlers, while other threads made system calls outside the lock of the page
// heap, has a second thread and forks.
int RawClonesThatFork() {
  if (_Fork == nullptr) return 0;
  const auto work = [](void *) -> void * {
    constexpr size_t kBytes = size_t{160} << 20;
    while (!g_stop) {
      char *const block = static_cast<char *>(malloc(kBytes));
      if (block == nullptr) Fail("no memory", kBytes);
      for (size_t at = 0; at < kBytes; at += 4096) const_cast<volatile char *>(block)[at] = 1;
      g_freeing++;
      free(block);
      g_freeing--;
    }
    return nullptr;
  };
  pthread_t threads[2];
  for (pthread_t &thread : threads) pthread_create(&thread, nullptr, work, nullptr);
  for (int k = 0; k < 12; ++k) {
    SleepMs(3);
    while (g_freeing == 0) sched_yield();
    const pid_t child = _Fork();
    if (child == 0) {
      alarm(kHangSeconds);
      void *volatile large = malloc(size_t{2} << 20);
      free(large);
      const auto allocate = [](void *) -> void * {
        void *volatile block = malloc(1000);
        free(block);
        return nullptr;
      };
      pthread_t second;
      if (pthread_create(&second, nullptr, allocate, nullptr) != 0) _exit(1);
      pthread_join(second, nullptr);
      const pid_t grandchild = fork();
      if (grandchild == 0) _exit(0);
      int status = 0;
      waitpid(grandchild, &status, 0);
      _exit(status != 0 ? 2 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) Fail("the status of a raw child that forks", static_cast<uint64_t>(status));
  }
  g_stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  return 0;
}

// ---- Children that share memory -----------------------------------------------------------------

constexpr int kSharedChildStatus = 3;
constexpr size_t kSharedBlocks = 256;
void *g_shared[kSharedBlocks];

// Replaces blocks of its parent, which waits. What the child allocates is left for the parent.
int ReplacesSharedBlocks(void *) {
  for (size_t k = 0; k < 200; ++k) {
    void *&block = g_shared[k * 37 % kSharedBlocks];
    free(block);
    // Every second one is of the page heap, whose lock the other threads hold most of the time.
    const size_t size = k % 2 == 0 ? 16 + k * 7919 % 5000 : 1100000 + k * 7919 % 100 * 20000;
    block = malloc(size);
    if (block != nullptr) memset(block, 1, size < 5000 ? size : 5000);
  }
  return kSharedChildStatus;
}

// vfork, and clone with CLONE_VM, as posix_spawn and programs that start others use it: the child is another process
// with the memory and the thread variables of the thread that made it. No fork handler runs.
int ChildrenThatShareMemory() {
  const auto work = [](void *) -> void * {
    while (!g_stop) {
      void *p[20];
      for (size_t i = 0; i < 20; ++i) p[i] = malloc(1100000 + i * 100000);
      for (void *block : p) free(block);
    }
    return nullptr;
  };
  pthread_t threads[2];
  for (pthread_t &thread : threads) pthread_create(&thread, nullptr, work, nullptr);
  alignas(64) static char stack[65536];
  for (int k = 0; k < 100; ++k) {
    const int flags = CLONE_VM | SIGCHLD | (k % 2 == 0 ? CLONE_VFORK : 0);
    const pid_t child = clone(ReplacesSharedBlocks, stack + sizeof stack, flags, nullptr);
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != kSharedChildStatus) {
      Fail("the status of a child that shares memory", static_cast<uint64_t>(status));
    }
    free(malloc(3000));
  }
  // The process can still fork, and its child finds the blocks.
  const pid_t child = fork();
  if (child == 0) {
    for (void *block : g_shared) free(block);
    _exit(hak_heap_verify() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) Fail("the status of a child of fork", static_cast<uint64_t>(status));
  g_stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  for (void *block : g_shared) free(block);
  if (!hak_heap_verify()) Fail("the heap is damaged", 0);
  AtMost(Stats().threads, 1, "heaps of threads that ended");
  return 0;
}

constexpr hak_life::Case kCases[] = {
    {"raw clones", RawClones},
    {"raw clones among large blocks", RawClonesAmongLargeBlocks},
    {"raw clones that fork", RawClonesThatFork},
    {"children that share memory", ChildrenThatShareMemory},
};

}  // namespace

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--child") == 0) return hak_life::RunCase(kCases, argv[2]);
  int failures = 0;
  for (const hak_life::Case &one : kCases) failures += hak_life::ExpectSuccess(one.name);
  puts(failures == 0 ? "ok" : "FAILED");
  return failures == 0 ? 0 : 1;
}
