// SPDX-License-Identifier: Apache-2.0
//
// Double frees.
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>

#include "allocator/test/misuse_case.h"

namespace misuse {
namespace {

void FreeAgain(Scene &scene) {
  StageMisuse(scene.victim);
  free(Hide(scene.victim));
  Stage("next");
}

void Immediate(Scene &scene) {
  scene.live.Free(scene.victim);
  FreeAgain(scene);
}

void Interleaved(Scene &scene) {
  scene.live.Free(scene.victim);
  scene.live.Free(scene.other);
  FreeAgain(scene);
}

// With a few frees between the two, so that a comparison with the latest frees does not find it; the block is still in
// the cache.
void Delayed(Scene &scene) {
  scene.live.Free(scene.victim);
  const size_t others = scene.size <= 4096 ? 8 : 3;
  for (size_t i = 0; i < others; ++i) scene.live.Free(scene.live[0].start);
  FreeAgain(scene);
}

// The program takes blocks of the size, and keeps them until the process ends.
void DelayedThenKept(Scene &scene) {
  Delayed(scene);
  UseAgain(scene);
  scene.live.Check();
}

// With so many frees between that the block has left the cache.
void AfterFlush(Scene &scene) {
  scene.live.Free(scene.victim);
  FreeSpares(scene);
  FreeAgain(scene);
}

// By then the block was allocated again, and its new holder frees it correctly.
void AfterReuse(Scene &scene) {
  scene.live.Free(scene.victim);
  for (size_t i = 0; i < AgainOf(scene.size); ++i) {
    if (scene.live.New(scene.size) == scene.victim) break;
  }
  const Block latest = scene.live[scene.live.Count() - 1];
  FreeAgain(scene);
  scene.live.Free(latest.start);
}

void FreeVictim(Scene &scene) { scene.live.Free(scene.victim); }

// Two threads free the block at the same moment. Neither call is the wrong one, and it is random which of them, or
// which later call, notices.
struct Racer {
  std::atomic<int> ready{0};
  unsigned char *block = nullptr;
} g_race;

void *Race(void *) {
  g_race.ready.fetch_add(1);
  while (g_race.ready.load() < 2) {
  }
  free(Hide(g_race.block));
  return nullptr;
}

void Concurrent(Scene &scene) {
  scene.live.Forget(scene.victim);
  g_race.block = scene.victim;
  StageMisuse(scene.victim);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, Race, nullptr) != 0) _exit(3);
  Race(nullptr);
  Stage("next");
  if (pthread_join(thread, nullptr) != 0) _exit(3);
}

const Case kCases[] = {
    {"double_free/immediate", nullptr, Immediate, 0},
    {"double_free/interleaved", nullptr, Interleaved, 0},
    {"double_free/delayed", nullptr, Delayed, 0},
    {"double_free/delayed_then_exit", nullptr, Delayed, kQuiet},
    {"double_free/delayed_then_kept", nullptr, DelayedThenKept, kQuiet},
    {"double_free/after_flush", TakeSpares, AfterFlush, 0},
    {"double_free/after_flush_then_exit", TakeSpares, AfterFlush, kQuiet},
    {"double_free/after_reuse", nullptr, AfterReuse, 0},
    {"double_free/local_and_remote", FreeVictim, FreeAgain, kRemoteOnly},
    {"double_free/local_and_remote_then_exit", FreeVictim, FreeAgain, kRemoteOnly | kQuiet},
    {"double_free/concurrent", nullptr, Concurrent, kRemoteOnly},
};

}  // namespace

CaseList DoubleFrees() { return {kCases, sizeof kCases / sizeof kCases[0]}; }

}  // namespace misuse
