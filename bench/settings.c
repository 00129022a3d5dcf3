// SPDX-License-Identifier: Apache-2.0
//
// The command line of random_mixed.
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/workload.h"

// The workloads and what they use where the command line says nothing.
static const struct settings kWorkloads[] = {
    {"mixed", WORKLOAD_MIXED, 20000000, 400, 1, 16, 1039, RNG_INDEPENDENT, 1, 0, TOUCH_FIRST, 0},
    {"small", WORKLOAD_MIXED, 20000000, 400, 1, 8, 128, RNG_INDEPENDENT, 1, 0, TOUCH_FIRST, 0},
    {"exchange", WORKLOAD_MIXED, 10000000, 4000, 1, 16, 1039, RNG_INDEPENDENT, 2, 50, TOUCH_FIRST, 0},
    {"pure_remote", WORKLOAD_PURE_REMOTE, 10000000, 4000, 1, 16, 1039, RNG_INDEPENDENT, 2, 0, TOUCH_FIRST, 0},
    {"large", WORKLOAD_MIXED, 500000, 64, 1, 32768, 1048576, RNG_INDEPENDENT, 1, 0, TOUCH_ENDS, 0},
    {"churn", WORKLOAD_CHURN, 2000000, 400, 1, 16, 1039, RNG_INDEPENDENT, 1, 0, TOUCH_FIRST, 0},
    {"realloc", WORKLOAD_REALLOC, 1000000, 100, 1, 16, 1048576, RNG_INDEPENDENT, 1, 0, TOUCH_ENDS, 0},
    {"growth", WORKLOAD_GROWTH, 100000, 100000, 1, 16, 1039, RNG_INDEPENDENT, 1, 0, TOUCH_ENDS, 0},
    {"pair", WORKLOAD_PAIR, 20000000, 1, 1, 64, 64, RNG_INDEPENDENT, 1, 0, TOUCH_FIRST, 0},
};
enum { WORKLOADS = sizeof kWorkloads / sizeof *kWorkloads };

static const char *const kRng[] = {"independent", "seed"};
static const char *const kTouch[] = {"first", "ends", "all"};

static void usage(FILE *to) {
  fprintf(to,
          "usage: random_mixed [cycles] [ws] [seed] [min] [max] [--rng seed|independent] [--threads N]\n"
          "                    [--remote PERCENT] [--touch first|ends|all] [--workload NAME] [--drag N] [--help]\n"
          "  cycles   operations (one malloc or one free) of each thread; a tenth of it more as warm-up\n"
          "  ws       slots of each thread\n"
          "  min max  block size in bytes, both included\n"
          "  --rng    independent: slot and size are independent (default); seed: xorshift32 gives both\n"
          "  --remote PERCENT of the frees swap their block with other threads (needs --threads 2 or more)\n"
          "  --touch  the bytes of a new block that are written\n"
          "  --drag N multiplications, each waiting for the one before, after every %d cycles: a planted slowdown\n"
          "workloads and their defaults:\n"
          "  %-12s %10s %7s %5s %6s %8s %8s %7s %6s\n",
          DRAG_EVERY, "name", "cycles", "ws", "seed", "min", "max", "threads", "remote", "touch");
  for (int i = 0; i < WORKLOADS; i++) {
    const struct settings *s = &kWorkloads[i];
    fprintf(to, "  %-12s %10" PRIu64 " %7u %5" PRIu64 " %6u %8u %8u %7u %6s\n", s->name, s->cycles, s->ws, s->seed,
            s->min, s->max, s->threads, s->remote, kTouch[s->touch]);
  }
}

__attribute__((format(printf, 1, 2))) static _Noreturn void refuse(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("random_mixed: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  usage(stderr);
  exit(2);
}

static uint64_t number(const char *what, const char *text, uint64_t low, uint64_t high) {
  uint64_t value;
  if (!parse_whole(text, low, high, &value)) {
    refuse("%s must be a whole number from %" PRIu64 " to %" PRIu64 ", not '%s'", what, low, high, text);
  }
  return value;
}

static int choice(const char *what, const char *text, const char *const *names, int count) {
  for (int i = 0; i < count; i++) {
    if (strcmp(text, names[i]) == 0) return i;
  }
  refuse("%s does not know '%s'", what, text);
}

// The value of option `name` when argv[*i] is it, given as --name=value or --name value; NULL otherwise.
static const char *option_value(const char *name, int argc, char **argv, int *i) {
  size_t length = strlen(name);
  if (strncmp(argv[*i], name, length) != 0) return NULL;
  if (argv[*i][length] == '=') return argv[*i] + length + 1;
  if (argv[*i][length] != '\0') return NULL;
  if (*i + 1 == argc) refuse("%s needs a value", name);
  return argv[++*i];
}

static const struct settings *find_workload(int argc, char **argv) {
  const struct settings *found = &kWorkloads[0];
  for (int i = 1; i < argc; i++) {
    const char *name = option_value("--workload", argc, argv, &i);
    if (!name) continue;
    found = NULL;
    for (int k = 0; k < WORKLOADS; k++) {
      if (strcmp(name, kWorkloads[k].name) == 0) found = &kWorkloads[k];
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
  if (s->min > s->max) refuse("min %u is over max %u", s->min, s->max);
  if (s->remote > 0 && s->threads < 2) refuse("--remote needs --threads 2 or more");
  if (s->remote > 0 && s->kind != WORKLOAD_MIXED) refuse("--remote does not apply to --workload %s", s->name);
  if (s->touch != kWorkloads[0].touch && s->kind != WORKLOAD_MIXED && s->kind != WORKLOAD_REALLOC &&
      s->kind != WORKLOAD_GROWTH) {
    refuse("--touch does not apply to --workload %s", s->name);
  }
  if (s->drag > 0 && s->kind != WORKLOAD_MIXED) refuse("--drag does not apply to --workload %s", s->name);
  if (s->kind == WORKLOAD_PURE_REMOTE && s->threads % 2 != 0) refuse("pure_remote needs an even number of --threads");
  if (s->kind == WORKLOAD_PAIR && s->min != s->max) refuse("pair allocates one size: min and max must be equal");
  if (s->rng != RNG_SEED) return;
  if (s->kind != WORKLOAD_MIXED) refuse("--rng=seed does not apply to --workload %s", s->name);
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
