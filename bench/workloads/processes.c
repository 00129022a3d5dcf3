// SPDX-License-Identifier: Apache-2.0
//
// Whole processes: many that are short (short_lived), children of a server (fork_server), and one that falls idle after
// a peak (cadence).
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/workloads/checked.h"

extern char **environ;

static _Noreturn void fail(const char *what, int error) {
  fprintf(stderr, "random_mixed: %s: %s\n", what, strerror(error));
  exit(1);
}

static void wait_for(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("waitpid", errno);
  }
  if (status != 0) {
    fprintf(stderr, "random_mixed: a child ended with wait status %d\n", status);
    exit(1);
  }
}

// ---- short_lived: this program again, which fills a heap once and ends --------------------------

static void short_lived_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  char ws[16], min[16], max[16];
  snprintf(ws, sizeof ws, "%u", s->ws);
  snprintf(min, sizeof min, "%u", s->min);
  snprintf(max, sizeof max, "%u", s->max);
  char program[] = "random_mixed", option[] = "--workload=short_child", cycles[] = "1", seed[] = "1";
  char *const argv[] = {program, option, cycles, ws, seed, min, max, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    pid_t child;
    const int error = posix_spawn(&child, "/proc/self/exe", &actions, NULL, argv, environ);
    if (error != 0) fail("cannot start a process", error);
    wait_for(child);
  }
  // Of each process one malloc for each slot; it ends without freeing them.
  lane_end(lane, s->cycles * s->ws);
  posix_spawn_file_actions_destroy(&actions);
}

struct result short_lived_run(const struct settings *s) { return lanes_run(s, NULL, short_lived_body); }

static void short_child_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct cell *cells = cells_map(s->ws);
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint32_t i = 0; i < s->ws; i++) cell_take(&cells[i], size_between(random_next(&state), s), i, TOUCH_ENDS);
  for (uint32_t i = 0; i < s->ws; i++) cell_check(&cells[i]);
  lane_end(lane, s->ws);
}

struct result short_child_run(const struct settings *s) { return lanes_run(s, NULL, short_child_body); }

// ---- fork_server: each child works a little on the heap that it inherits ------------------------

static void serve(struct cell *cells, const struct settings *s, uint64_t random) {
  for (uint32_t i = 0; i < s->ws / 4; i++) {
    const uint64_t bits = random_next(&random);
    struct cell *c = &cells[random_below((uint32_t)(bits >> 32), s->ws)];
    cell_give(c);
    cell_take(c, size_between(bits, s), (uint32_t)bits, s->touch);
  }
}

static void fork_server_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct cell *cells = cells_map(s->ws);
  uint64_t state = random_start(s->seed, lane->index);
  for (uint32_t i = 0; i < s->ws; i++) cell_take(&cells[i], size_between(random_next(&state), s), i, s->touch);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    const pid_t child = fork();
    if (child < 0) fail("fork", errno);
    if (child == 0) {
      serve(cells, s, state + i);
      for (uint32_t slot = 0; slot < s->ws; slot++) cell_check(&cells[slot]);
      _exit(0);
    }
    // The parent goes on meanwhile, which copies the pages that it writes to.
    serve(cells, s, state + ~i);
    wait_for(child);
  }
  const uint64_t served = 4 * s->cycles * (s->ws / 4);  // of both processes
  lane_end(lane, served + cells_drain(cells, s->ws));
  munmap(cells, s->ws * sizeof *cells);
}

struct result fork_server_run(const struct settings *s) { return lanes_run(s, NULL, fork_server_body); }

// ---- cadence: a peak, all of it freed, then one call in each period -----------------------------
// What counts is the memory at the end.

static void cadence_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const long period_ms = s->shape == SHAPE_MS_1 ? 1 : s->shape == SHAPE_MS_10 ? 10 : 100;
  struct cell *cells = cells_map(s->ws);
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint32_t i = 0; i < s->ws; i++) cell_take(&cells[i], size_between(random_next(&state), s), i, s->touch);
  cells_drain(cells, s->ws);
  struct cell one = {NULL, 0, 0};
  for (uint64_t i = 0; i < s->cycles; i++) {
    nanosleep(&(struct timespec){0, period_ms * 1000000L}, NULL);
    cell_take(&one, size_between(random_next(&state), s), (uint32_t)i, s->touch);
    cell_give(&one);
  }
  lane_end(lane, 2 * (s->ws + s->cycles));
  munmap(cells, s->ws * sizeof *cells);
}

struct result cadence_run(const struct settings *s) { return lanes_run(s, NULL, cadence_body); }
