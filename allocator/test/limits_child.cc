// SPDX-License-Identifier: Apache-2.0
//
// What limits_test runs with a limited address space, and under valgrind. It uses the C names only, so that the same
// source can be linked with the override or run under LD_PRELOAD. It uses no containers, so that only the blocks under
// test are allocated.
//
//   limits_child exhaust SIZE   blocks of SIZE bytes (0: of mixed sizes) until malloc gives NULL; then checks and frees
//   limits_child threads        the same by eight threads at once
//   limits_child few            some blocks, as many as there can be: says "good", or "refused" when one was not
//   limits_child workload       a fixed random program with threads; prints a sum that depends on its every byte
#include <errno.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "allocator/test/test_random.h"

extern "C" __attribute__((weak)) bool hak_heap_verify(void) HAK_NOEXCEPT;
extern "C" __attribute__((weak)) const char *hak_version(void) HAK_NOEXCEPT;

namespace {

using hak_test::Mix64;
using hak_test::Random;

[[noreturn]] void Fail(const char *what) {
  printf("FAILED: %s\n", what);
  fflush(stdout);
  _Exit(1);
}

// Live blocks are linked by their first bytes. The last byte repeats the sequence number.
struct Node {
  Node *next;
  uint32_t number;
  uint32_t size;
};

struct Chain {
  Node *first = nullptr;
  uint32_t count = 0;
  uint64_t bytes = 0;
};

bool Push(Chain *chain, size_t size) {
  auto *node = static_cast<Node *>(malloc(size));
  if (node == nullptr) return false;
  // Touches every page, so that a missing page is noticed now.
  for (size_t at = 0; at < size; at += 4096) reinterpret_cast<unsigned char *>(node)[at] = 1;
  node->next = chain->first;
  node->number = ++chain->count;
  node->size = static_cast<uint32_t>(size);
  if (size > sizeof *node) reinterpret_cast<unsigned char *>(node)[size - 1] = static_cast<unsigned char>(node->number);
  chain->first = node;
  chain->bytes += size;
  return true;
}

void Check(const Node *node) {
  if (node->size <= sizeof *node) return;
  const unsigned char last = reinterpret_cast<const unsigned char *>(node)[node->size - 1];
  if (last != static_cast<unsigned char>(node->number)) Fail("a live block changed");
}

// Frees every second block, or all.
void Free(Chain *chain, bool all) {
  Node **link = &chain->first;
  for (bool odd = true; *link != nullptr; odd = !odd) {
    Node *node = *link;
    Check(node);
    if (all || odd) {
      *link = node->next;
      chain->bytes -= node->size;
      free(node);
    } else {
      link = &node->next;
    }
  }
}

void Verify() {
  if (hak_heap_verify == nullptr) Fail("not running on hakmem");
  if (!hak_heap_verify()) Fail("hak_heap_verify");
}

size_t NextSize(size_t size, Random *random) {
  if (size != 0) return size;
  return 16 + random->Index(random->OneIn(10) ? 400000 : 3000);
}

uint64_t Exhaust(Chain *chain, size_t size, Random *random) {
  errno = 0;
  while (Push(chain, NextSize(size, random))) {
  }
  if (errno != ENOMEM) Fail("malloc gave NULL without ENOMEM");
  return chain->bytes;
}

int RunExhaust(size_t size) {
  rlimit limit = {};
  getrlimit(RLIMIT_AS, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) Fail("this mode needs a limited address space");
  Random random(size);
  Chain chain;
  const uint64_t reached = Exhaust(&chain, size, &random);
  const uint32_t blocks = chain.count;
  Verify();
  // Programs, their libraries and stacks take about 10 to 20 MiB.
  if (reached < limit.rlim_cur / 4) {
    printf("only %llu of %llu bytes could be allocated\n", static_cast<unsigned long long>(reached),
           static_cast<unsigned long long>(limit.rlim_cur));
    Fail("most of the address space was wasted");
  }
  // Refusals of every kind change nothing.
  errno = 0;
  volatile size_t huge = limit.rlim_cur;
  if (calloc(1, huge) != nullptr || errno != ENOMEM) Fail("calloc over the limit");
  errno = 0;
  if (realloc(chain.first, huge) != nullptr || errno != ENOMEM) Fail("realloc over the limit");
  Check(chain.first);
  Free(&chain, false);
  Verify();
  if (!Push(&chain, NextSize(size, &random))) Fail("no block of the same size after half had been freed");
  const uint64_t again = Exhaust(&chain, size, &random);
  // Blocks of mixed sizes leave gaps that only some sizes fit, and the first refusal ends the filling.
  if (size != 0 && again < reached - reached / 10) Fail("the second filling reached much less than the first");
  Free(&chain, true);
  Verify();
  auto *zeroed = static_cast<unsigned char *>(calloc(1, 100000));
  if (zeroed == nullptr) Fail("calloc after all had been freed");
  for (size_t i = 0; i < 100000; ++i) {
    if (zeroed[i] != 0) Fail("calloc memory is not zero");
  }
  free(zeroed);
  void *large = malloc(limit.rlim_cur / 8);
  if (large == nullptr) Fail("a large block after all had been freed");
  free(large);
  printf("%s after %u blocks\n", blocks > 0 ? "good" : "nothing", blocks);
  return 0;
}

void *ExhaustInThread(void *) {
  Random random(reinterpret_cast<uintptr_t>(&random));
  Chain chain;
  Exhaust(&chain, 0, &random);
  Free(&chain, true);
  return nullptr;
}

template <typename Body>
void InThreads(Body body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_t threads[8];
  size_t count = 0;
  for (uintptr_t i = 0; i < 8; ++i) {
    // The address space may already be full of other threads' blocks. At least one thread must start.
    if (pthread_create(&threads[count], &attributes, body, reinterpret_cast<void *>(i)) == 0) ++count;
  }
  pthread_attr_destroy(&attributes);
  if (count == 0) Fail("no thread could be started");
  for (size_t i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
}

// Runs before the constructor of the allocator, which has no priority. A process that dies after this point fails the
// test.
__attribute__((constructor(101))) void SayStarted() {
  const char *wanted = getenv("HAK_TEST_SAY_STARTED");
  if (wanted != nullptr && write(STDOUT_FILENO, "started\n", 8) != 8) _Exit(3);
}

// A small program under a limit that may be too low for it.
int RunFew() {
  Random random(1);
  Chain chain;
  bool refused = false;
  for (int i = 0; i < 300; ++i) {
    const size_t size = i % 100 == 99 ? 1500000 : i % 20 == 19 ? 100000 : NextSize(1 + random.Index(4000), &random);
    errno = 0;
    if (Push(&chain, size < sizeof(Node) ? sizeof(Node) : size)) continue;
    if (errno != ENOMEM) Fail("malloc gave NULL without ENOMEM");
    refused = true;
    if (i % 2 == 0) Free(&chain, false);
  }
  Verify();
  Free(&chain, true);
  Verify();
  puts(refused ? "refused" : "good");
  return 0;
}

int RunThreads() {
  rlimit limit = {};
  getrlimit(RLIMIT_AS, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) Fail("this mode needs a limited address space");
  InThreads(ExhaustInThread);
  Verify();
  void *p = malloc(1000000);
  if (p == nullptr) Fail("1 MB was refused after all threads had freed their blocks");
  free(p);
  puts("good");
  return 0;
}

uint64_t g_sums[8];

void *WorkInThread(void *index) {
  Random random(reinterpret_cast<uintptr_t>(index));
  unsigned char *blocks[100] = {};
  size_t sizes[100] = {};
  uint64_t sum = 0;
  for (int op = 0; op < 5000; ++op) {
    const size_t i = random.Index(100);
    if (blocks[i] != nullptr) {
      for (size_t k = 0; k < sizes[i]; ++k) sum = sum * 31 + blocks[i][k];
      free(blocks[i]);
      blocks[i] = nullptr;
      continue;
    }
    sizes[i] = 1 + random.Index(random.OneIn(50) ? 100000 : 700);
    blocks[i] = static_cast<unsigned char *>(malloc(sizes[i]));
    if (blocks[i] == nullptr) Fail("malloc");
    memset(blocks[i], static_cast<int>(random.Below(256)), sizes[i]);
  }
  for (unsigned char *p : blocks) free(p);
  g_sums[reinterpret_cast<uintptr_t>(index)] = sum;
  return nullptr;
}

int RunWorkload() {
  InThreads(WorkInThread);
  uint64_t sum = 0;
  for (const uint64_t part : g_sums) sum = Mix64(sum ^ part);
  Verify();
  printf("sum %016llx\n", static_cast<unsigned long long>(sum));
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  // The buffer of stdio is the only allocation that is not part of a test.
  setvbuf(stdout, nullptr, _IONBF, 0);
  if (argc == 3 && strcmp(argv[1], "exhaust") == 0) return RunExhaust(strtoull(argv[2], nullptr, 10));
  if (argc == 2 && strcmp(argv[1], "few") == 0) return RunFew();
  if (argc == 2 && strcmp(argv[1], "threads") == 0) return RunThreads();
  if (argc == 2 && strcmp(argv[1], "workload") == 0) return RunWorkload();
  if (argc == 2 && strcmp(argv[1], "version") == 0) {
    puts(hak_version == nullptr ? "not hakmem" : hak_version());
    return 0;
  }
  fprintf(stderr, "usage: %s exhaust SIZE | few | threads | workload | version\n", argv[0]);
  return 2;
}
