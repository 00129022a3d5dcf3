// SPDX-License-Identifier: Apache-2.0
//
// fork: a parent with a heap; children allocate, free their own blocks and some inherited ones, and exit.
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soak/soak.h"

enum {
  CHILD_BLOCKS = 2000,
  CHILD_LARGE = 8,
  LARGE_MIN = 32768,
  LARGE_MAX = 131072,
  INHERITED_EVERY = 16,  // a child frees one in this many of the parent's blocks
  PARENT_CYCLES = 8192,  // cycles of the parent while a round of children runs
};

static _Noreturn void child_main(struct counts *c, struct population *p, const struct slots *inherited) {
  for (uint32_t i = 0; i < CHILD_BLOCKS; i++) population_add(p, c, 16, 1039);
  for (uint32_t i = 0; i < CHILD_LARGE; i++) population_add(p, c, LARGE_MIN, LARGE_MAX);
  for (uint32_t i = 0; i < inherited->count; i += INHERITED_EVERY) {
    // The block stays live in the parent, so its bytes are not subtracted.
    if (inherited->blocks[i].p) block_give(c, (struct block){inherited->blocks[i].p, 0});
  }
  while (p->count > 0) population_drop(p, c);
  _exit(0);
}

static pid_t start_child(struct counts *c, struct population *p, const struct slots *slots, uint64_t seed) {
  p->state = random_start(seed, 2);
  const pid_t child = fork();
  if (child < 0) soak_fail("fork: %s", strerror(errno));
  if (child == 0) child_main(c, p, slots);
  return child;
}

static void await_child(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) soak_fail("waitpid: %s", strerror(errno));
  }
  if (WIFSIGNALED(status)) soak_fail("a child was ended by signal %d", WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) soak_fail("a child ended with status %d", WEXITSTATUS(status));
}

void fork_run(const struct soak_settings *s) {
  struct counts *c = counts_of(0);
  struct slots slots;
  struct population p;  // empty in the parent
  slots_init(&slots, s->ws, s->seed);
  population_init(&p, CHILD_BLOCKS + CHILD_LARGE, s->seed);
  timeline_start();
  uint64_t forks = 0;
  while (epoch_begin()) {
    do {
      pid_t children[MAX_LANES];
      slots_walk(&slots, s->ws, c, PARENT_CYCLES);
      for (uint32_t i = 0; i < s->children; i++) {
        children[i] = start_child(counts_of(i + 1), &p, &slots, s->seed + forks++);
      }
      slots_walk(&slots, s->ws, c, PARENT_CYCLES);
      for (uint32_t i = 0; i < s->children; i++) await_child(children[i]);
      peak_live_note();
    } while (epoch_lasts());
    epoch_end("fork");
  }
}
