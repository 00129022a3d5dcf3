// SPDX-License-Identifier: Apache-2.0
//
// sandboxed [break]: a program that forbids itself all system calls but those for memory, futex, threads and write, and
// goes on allocating by the C library's names: small and large blocks, new threads, threads that sleep with full
// caches, trims. Its malloc is whatever it is linked with or what is preloaded. It writes the version of hakmem and
// ends with 0; 77: no filter can be set here; 1: its malloc is not hakmem's. With `break` it makes a forbidden call.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "allocator/test/kernel/filter.h"

// Of the library that is the malloc, if that is hakmem.
extern "C" __attribute__((weak)) const char *hak_version() noexcept;

namespace {

constexpr size_t kBlocks = 8000;

void Sleep(long ms) {
  const timespec time = {0, ms * 1000000};
  nanosleep(&time, nullptr);
}

// Volatile, because the compiler may remove the calls otherwise.
void *Take(size_t size) {
  void *volatile block = malloc(size);
  if (block == nullptr) abort();
  memset(block, 1, size < 8000 ? size : 8000);
  return block;
}

// 40 MiB of blocks of small and large sizes, then most of them freed, and some time with few calls.
void *Work(void *) {
  void **blocks = static_cast<void **>(calloc(kBlocks, sizeof(void *)));
  if (blocks == nullptr) abort();
  for (size_t i = 0; i < kBlocks; i++) blocks[i] = Take(i % 500 == 0 ? 2000000 : 16 + i * 37 % 8000);
  for (size_t i = 0; i < kBlocks; i++) {
    if (i % 16 != 0) free(blocks[i]);
  }
  malloc_trim(0);
  for (int turn = 0; turn < 20; turn++) {
    Sleep(5);
    for (size_t k = 0; k < 60; k++) free(Take(3000 + k * 100));
    free(realloc(calloc(1, 300000), 1400000));
    free(aligned_alloc(4096, 200000));
  }
  for (size_t i = 0; i < kBlocks; i += 16) free(blocks[i]);
  free(blocks);
  return nullptr;
}

void *g_shared[2000];  // allocated by one thread, freed by another

// Its cache is full before the filter is set.
void *Early(void *begin) {
  for (size_t i = 0; i < 64; i++) g_shared[i] = Take(3000);
  for (size_t i = 0; i < 64; i++) free(g_shared[i]);
  pthread_barrier_wait(static_cast<pthread_barrier_t *>(begin));  // the cache is full
  pthread_barrier_wait(static_cast<pthread_barrier_t *>(begin));  // the filter is set
  for (void *block : g_shared) free(block);
  return Work(nullptr);
}

bool AllowMemoryOnly() {
  return hak_test::SetFilter({SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_futex,
                              // A trim may ask for it.
                              SYS_membarrier,
                              // For the C library's threads and this program.
                              SYS_exit, SYS_exit_group, SYS_clone, SYS_clone3, SYS_set_robust_list, SYS_rseq,
                              SYS_rt_sigprocmask, SYS_nanosleep, SYS_clock_nanosleep, SYS_write},
                             SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
}

}  // namespace

int main(int argc, char **) {
  if (hak_version == nullptr) return 1;
  pthread_barrier_t begin;
  pthread_t early;
  pthread_t late;
  // The C library may open files for its first thread.
  if (pthread_create(&late, nullptr, Work, nullptr) != 0 || pthread_join(late, nullptr) != 0) return 2;
  pthread_barrier_init(&begin, nullptr, 2);
  if (pthread_create(&early, nullptr, Early, &begin) != 0) return 2;
  pthread_barrier_wait(&begin);
  for (void *&block : g_shared) block = Take(500);
  if (!AllowMemoryOnly()) return 77;
  pthread_barrier_wait(&begin);
  if (argc > 1) syscall(SYS_getuid);
  if (pthread_create(&late, nullptr, Work, nullptr) != 0) return 3;
  Work(nullptr);
  pthread_join(early, nullptr);
  pthread_join(late, nullptr);
  const char *const version = hak_version();
  return write(STDOUT_FILENO, version, strlen(version)) > 0 ? 0 : 4;
}
