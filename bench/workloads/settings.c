// SPDX-License-Identifier: Apache-2.0
//
// The command line of random_mixed.
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/command_line.h"
#include "bench/workloads/workload.h"

#define WORKLOAD(...)
#define LOOP(name, takes) LOOP_##name,
enum {
#include "bench/workloads/table.inc"
};
#undef LOOP

#define LOOP(name, takes_) [LOOP_##name] = {.run = name##_run, .takes = (enum takes)(takes_)},
static const struct loop kLoops[] = {
#include "bench/workloads/table.inc"
};
#undef LOOP
#undef WORKLOAD

// The workloads and their default settings.
#define LOOP(name, takes)
#define WORKLOAD(name_, loop_, cycles_, ws_, min_, max_, threads_, remote_, touch_, shape_, group_, who_, text_) \
  {.text = (text_),                                                                                              \
   .settings = {.name = (name_),                                                                                 \
                .loop = &kLoops[LOOP_##loop_],                                                                   \
                .cycles = (cycles_),                                                                             \
                .ws = (ws_),                                                                                     \
                .seed = 1,                                                                                       \
                .min = (min_),                                                                                   \
                .max = (max_),                                                                                   \
                .rng = RNG_INDEPENDENT,                                                                          \
                .threads = (threads_),                                                                           \
                .remote = (remote_),                                                                             \
                .touch = TOUCH_##touch_,                                                                         \
                .shape = SHAPE_##shape_}},
static const struct {
  const char *text;
  struct settings settings;
} kWorkloads[] = {
#include "bench/workloads/table.inc"
};
#undef LOOP
#undef WORKLOAD
enum { WORKLOADS = sizeof kWorkloads / sizeof *kWorkloads };

static const char *const kRng[] = {"independent", "seed"};
static const char *const kTouch[] = {"first", "ends", "all"};

static void usage(FILE *to) {
  fprintf(to,
          "usage: random_mixed [cycles] [ws] [seed] [min] [max] [--rng seed|independent] [--threads N]\n"
          "                    [--remote PERCENT] [--touch first|ends|all] [--workload NAME] [--drag N] [--help]\n"
          "  cycles   operations (one malloc or one free) of each thread; the warm-up takes a tenth more\n"
          "  ws       slots of each thread\n"
          "  min max  block size in bytes, both included\n"
          "  --rng    independent: slot and size are independent (default); seed: both from one xorshift32 number\n"
          "  --remote PERCENT of the frees swap their block with other threads (needs --threads 2 or more)\n"
          "  --touch  the bytes of a new block that are written\n"
          "  --drag   N dependent multiplications after every %d cycles: a planted slowdown\n"
          "workloads and their defaults:\n"
          "  %-16s %8s %7s %8s %8s %7s %6s %5s\n",
          DRAG_EVERY, "name", "cycles", "ws", "min", "max", "threads", "remote", "touch");
  for (int i = 0; i < WORKLOADS; i++) {
    const struct settings *s = &kWorkloads[i].settings;
    fprintf(to, "  %-16s %8" PRIu64 " %7u %8u %8u %7u %6u %5s  %s\n", s->name, s->cycles, s->ws, s->min, s->max,
            s->threads, s->remote, kTouch[s->touch], kWorkloads[i].text);
  }
}

const struct command_line command_line = {.program = "random_mixed", .usage = usage};

static const struct settings *find_workload(int argc, char **argv) {
  const struct settings *found = &kWorkloads[0].settings;
  for (int i = 1; i < argc; i++) {
    const char *name = option_value("--workload", argc, argv, &i);
    if (!name) continue;
    found = NULL;
    for (int k = 0; k < WORKLOADS; k++) {
      if (strcmp(name, kWorkloads[k].settings.name) == 0) found = &kWorkloads[k].settings;
    }
    if (!found) refuse("--workload does not know '%s'", name);
  }
  return found;
}

static void positional(struct settings *s, int place, const char *text) {
  switch (place) {
    case 0:
      s->cycles = number("cycles", text, 1, UINT64_C(1000000000000000));
      break;
    case 1:
      s->ws = (uint32_t)number("ws", text, 1, 1u << 30);
      break;
    case 2:
      s->seed = number("seed", text, 0, UINT64_MAX);
      break;
    case 3:
      s->min = (uint32_t)number("min", text, 1, 1u << 30);
      break;
    case 4:
      s->max = (uint32_t)number("max", text, 1, 1u << 30);
      break;
    default:
      refuse("unexpected argument '%s'", text);
  }
}

static void check(const struct settings *s) {
  const enum takes takes = s->loop->takes;
  if (s->min > s->max) refuse("min %u is over max %u", s->min, s->max);
  if (s->remote > 0 && s->threads < 2) refuse("--remote needs --threads 2 or more");
  if (s->remote > 0 && !(takes & REMOTE)) refuse("--remote does not apply to --workload %s", s->name);
  if (s->touch != kWorkloads[0].settings.touch && !(takes & TOUCH)) {
    refuse("--touch does not apply to --workload %s", s->name);
  }
  if (s->drag > 0 && !(takes & DRAG)) refuse("--drag does not apply to --workload %s", s->name);
  if ((takes & EVEN_THREADS) && s->threads % 2 != 0) refuse("%s needs an even number of --threads", s->name);
  if ((takes & ONE_SIZE) && s->min != s->max) refuse("%s allocates one size: min and max must be equal", s->name);
  if ((takes & LEAST_16) && s->min < 16) refuse("%s needs blocks of 16 bytes or more", s->name);
  if (s->rng != RNG_SEED) return;
  if (!(takes & RNG)) refuse("--rng=seed does not apply to --workload %s", s->name);
  if (s->min != 16 || s->max != 1039) refuse("--rng=seed has its own sizes, 16 to 1039");
  if (s->remote > 0) refuse("--remote needs --rng=independent");
  if (s->seed == 0 || s->seed + s->threads > UINT32_MAX) refuse("--rng=seed needs a seed from 1 to 2^32 - 1 - threads");
}

void settings_parse(struct settings *s, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      usage(stdout);
      fflush(stdout);
      exit(0);
    }
  }
  *s = *find_workload(argc, argv);
  int place = 0;
  for (int i = 1; i < argc; i++) {
    const char *value;
    if (strncmp(argv[i], "-", 1) != 0) {
      positional(s, place++, argv[i]);
    } else if ((value = option_value("--workload", argc, argv, &i))) {
      continue;
    } else if ((value = option_value("--rng", argc, argv, &i))) {
      s->rng = (enum rng_kind)choice("--rng", value, kRng, 2);
    } else if ((value = option_value("--touch", argc, argv, &i))) {
      s->touch = (enum touch_kind)choice("--touch", value, kTouch, 3);
    } else if ((value = option_value("--threads", argc, argv, &i))) {
      s->threads = (uint32_t)number("--threads", value, 1, 4096);
    } else if ((value = option_value("--remote", argc, argv, &i))) {
      s->remote = (uint32_t)number("--remote", value, 0, 100);
    } else if ((value = option_value("--drag", argc, argv, &i))) {
      s->drag = (uint32_t)number("--drag", value, 0, 100000000);
    } else {
      refuse("unknown option '%s'", argv[i]);
    }
  }
  check(s);
}

void settings_print(const struct settings *s) {
  printf("Workload = %s cycles=%" PRIu64 " ws=%u seed=%" PRIu64 " min=%u max=%u rng=%s threads=%u remote=%u touch=%s",
         s->name, s->cycles, s->ws, s->seed, s->min, s->max, kRng[s->rng], s->threads, s->remote, kTouch[s->touch]);
  if (s->drag > 0) printf(" drag=%u", s->drag);
  putchar('\n');
}
