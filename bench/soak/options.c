// SPDX-License-Identifier: Apache-2.0
//
// The command line of soak_worker.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/lib/command_line.h"
#include "bench/soak/soak.h"

static const struct {
  const char *name;
  void (*run)(const struct soak_settings *);
  uint32_t ws;
  bool bounded;  // ends by itself, without turns
  const char *text;
} kWorkloads[] = {
    {"steady", steady_run, 400, false, "random slots are filled and freed, 16..1039 bytes"},
    {"spike", spike_run, 400, false, "grow to the peak, hold, free 49 of 50 blocks, go on with WS slots"},
    {"phase", phase_run, 1, false, "16..1039 bytes, then 2048..32768, then the former again, at the same live bytes"},
    {"churn", churn_run_epochs, 20000, false, "producers and consumers that end and are replaced"},
    {"fork", fork_run, 20000, false, "a parent with a heap, and children that allocate and exit"},
    {"freeall", freeall_run, 1, true, "fill, free all, rows 1, 2, 5 and 12 seconds later"},
    {"consumer", consumer_run, 4096, true, "10,000,000 blocks from one thread to one that only frees; WS in the queue"},
    {"threads", short_threads_run, 1, true,
     "10,000 short threads that leave 100 blocks each to another; a row for 500"},
};
enum { WORKLOADS = sizeof kWorkloads / sizeof *kWorkloads };

static const char *const kTrickles[] = {"none", "one", "mixed"};

static void usage(FILE *to) {
  fprintf(to,
          "usage: soak_worker [--workload NAME] [--duration SEC] [--epoch SEC] [--ws N] [--seed N] [--csv FILE]\n"
          "                   [--latency FILE] [--peak-mb N] [--epoch-ops N] [--max-ops N] [--max-size N]\n"
          "                   [--threads N] [--children N] [--trickle none|one|mixed] [--turns IN,OUT[,first]] "
          "[--start-ns NS]\n"
          "                   [--start-row] [--trough] [--no-trace] [--identity] [--now] [--help]\n"
          "  --duration   seconds of wall time (10); freeall: after the last free\n"
          "  --epoch      seconds of one epoch (1)\n"
          "  --epoch-ops  operations of one epoch, instead of seconds; fork: of the parent\n"
          "  --csv        writes one row for each epoch to FILE (default -, which is stdout)\n"
          "  --latency    writes the histogram of each epoch to FILE\n"
          "  --peak-mb    MiB of live blocks at the peak of spike and freeall, always in phase (200)\n"
          "  --max-ops    ends after the epoch that reaches N mallocs and frees; consumer: makes N of them\n"
          "  --max-size   freeall: the largest block (1039)\n"
          "  --threads    freeall: how many threads allocate, and free their neighbour's blocks (1)\n"
          "  --children   fork: how many children at a time, 1 to 4 (2)\n"
          "  --trickle    freeall: five times a second one malloc and free, of 100 bytes or of mixed sizes (none)\n"
          "  --turns      reads a byte from file descriptor IN before each epoch, writes one to OUT after it\n"
          "  --start-ns   time 0 of the rows, by CLOCK_MONOTONIC; --now prints it\n"
          "  --start-row  writes a row before the first block\n"
          "  --trough     steady: ends with an epoch with a tenth of the slots\n"
          "  --no-trace   does not count system calls\n"
          "  --identity   prints which allocator malloc comes from\n"
          "workloads, with their default WS:\n");
  for (int i = 0; i < WORKLOADS; i++) {
    fprintf(to, "  %-9s %6" PRIu32 "  %s\n", kWorkloads[i].name, kWorkloads[i].ws, kWorkloads[i].text);
  }
}

const struct command_line command_line = {.program = "soak_worker", .usage = usage};

// Seconds like 2 or 0.25, in nanoseconds.
static uint64_t seconds(const char *what, const char *text) {
  char *end = NULL;
  const double value = text[strspn(text, "0123456789.")] == '\0' ? strtod(text, &end) : 0;
  if (!end || end == text || *end != '\0' || value < 0.01 || value > 1e7) {
    refuse("%s must be seconds from 0.01 to 10000000, not '%s'", what, text);
  }
  return (uint64_t)(value * 1e9);
}

static void turns(struct soak_settings *s, const char *text) {
  int length = 0;
  char first[8] = "";
  if (sscanf(text, "%9d,%9d%n,%7s%n", &s->turn_in, &s->turn_out, &length, first, &length) < 2 || text[length] != '\0' ||
      s->turn_in < 0 || s->turn_out < 0 || (first[0] && strcmp(first, "first") != 0)) {
    refuse("--turns must be IN,OUT or IN,OUT,first, not '%s'", text);
  }
  s->turn_first = first[0] != '\0';
}

static void choose_workload(struct soak_settings *s, const char *name, bool *bounded, uint32_t *ws) {
  for (int i = 0; i < WORKLOADS; i++) {
    if (strcmp(name, kWorkloads[i].name) != 0) continue;
    s->workload = kWorkloads[i].name;
    s->run = kWorkloads[i].run;
    *bounded = kWorkloads[i].bounded;
    *ws = kWorkloads[i].ws;
    return;
  }
  refuse("--workload does not know '%s'", name);
}

static bool flag(struct soak_settings *s, const char *text) {
  if (strcmp(text, "--start-row") == 0) {
    s->start_row = true;
  } else if (strcmp(text, "--trough") == 0) {
    s->trough = true;
  } else if (strcmp(text, "--no-trace") == 0) {
    s->trace = false;
  } else {
    return false;
  }
  return true;
}

// Options that print something and end the program.
static void questions(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const bool help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    const bool identity = strcmp(argv[i], "--identity") == 0;
    if (!help && !identity && strcmp(argv[i], "--now") != 0) continue;
    if (help) {
      usage(stdout);
    } else if (identity) {
      allocator_print();
    } else {
      printf("%" PRIu64 "\n", now_ns());
    }
    fflush(stdout);
    exit(0);
  }
}

void options_parse(struct soak_settings *s, int argc, char **argv) {
  questions(argc, argv);
  *s = (struct soak_settings){
      .duration_ns = UINT64_C(10000000000),
      .epoch_ns = UINT64_C(1000000000),
      .csv = "-",
      .turn_in = -1,
      .turn_out = -1,
      .trace = true,
      .seed = 1,
      .peak_bytes = UINT64_C(200) << 20,
      .max_size = 1039,
      .threads = 1,
      .children = 2,
  };
  bool bounded;
  uint32_t default_ws;
  choose_workload(s, "steady", &bounded, &default_ws);
  for (int i = 1; i < argc; i++) {
    const char *value;
    if (flag(s, argv[i])) continue;
    if ((value = option_value("--workload", argc, argv, &i))) {
      choose_workload(s, value, &bounded, &default_ws);
    } else if ((value = option_value("--duration", argc, argv, &i))) {
      s->duration_ns = seconds("--duration", value);
    } else if ((value = option_value("--epoch", argc, argv, &i))) {
      s->epoch_ns = seconds("--epoch", value);
    } else if ((value = option_value("--ws", argc, argv, &i))) {
      s->ws = (uint32_t)number("--ws", value, 1, 1u << 28);
    } else if ((value = option_value("--seed", argc, argv, &i))) {
      s->seed = number("--seed", value, 0, UINT64_MAX);
    } else if ((value = option_value("--csv", argc, argv, &i))) {
      s->csv = value;
    } else if ((value = option_value("--latency", argc, argv, &i))) {
      s->latency = value;
    } else if ((value = option_value("--peak-mb", argc, argv, &i))) {
      s->peak_bytes = number("--peak-mb", value, 1, 1u << 20) << 20;
    } else if ((value = option_value("--epoch-ops", argc, argv, &i))) {
      s->epoch_ops = number("--epoch-ops", value, 1, UINT64_C(1000000000000000));
    } else if ((value = option_value("--max-ops", argc, argv, &i))) {
      s->max_ops = number("--max-ops", value, 2, UINT64_C(1000000000000000));
    } else if ((value = option_value("--max-size", argc, argv, &i))) {
      s->max_size = (uint32_t)number("--max-size", value, 16, 1u << 24);
    } else if ((value = option_value("--threads", argc, argv, &i))) {
      s->threads = (uint32_t)number("--threads", value, 1, MAX_LANES - 1);
    } else if ((value = option_value("--children", argc, argv, &i))) {
      s->children = (uint32_t)number("--children", value, 1, 4);
    } else if ((value = option_value("--trickle", argc, argv, &i))) {
      s->trickle = (enum trickle)choice("--trickle", value, kTrickles, 3);
    } else if ((value = option_value("--turns", argc, argv, &i))) {
      turns(s, value);
    } else if ((value = option_value("--start-ns", argc, argv, &i))) {
      s->start_ns = number("--start-ns", value, 1, UINT64_MAX);
    } else {
      refuse("unknown option '%s'", argv[i]);
    }
  }
  if (s->ws == 0) s->ws = default_ws;
  if (!bounded && s->epoch_ns > s->duration_ns) refuse("--epoch is longer than --duration");
  if (s->turn_in >= 0 && bounded) refuse("--turns does not apply to --workload %s", s->workload);
  if (s->turn_in >= 0 && s->max_ops > 0) refuse("--turns and --max-ops exclude each other");
  if (s->epoch_ops > 0 && (bounded || s->run == churn_run_epochs)) {
    refuse("--epoch-ops does not apply to --workload %s", s->workload);
  }
  if (s->trough && s->run != steady_run) refuse("--trough does not apply to --workload %s", s->workload);
  if (s->start_ns > now_ns()) refuse("--start-ns lies in the future");
}
