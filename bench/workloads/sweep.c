// SPDX-License-Identifier: Apache-2.0
//
// One thread or many, each with slots of its own: sizes of several distributions (sweep), batches of one size (hot),
// and slots behind whose blocks holes are left (fragmented), or that are all filled and all freed in turn (oscillate).
#include <sys/mman.h>

#include "bench/workloads/checked.h"

// ---- Sizes --------------------------------------------------------------------------------------

// Sizes of the objects of C++ programs: nodes of trees and lists, strings, small vectors. Each line is a size and how
// many of 128 blocks have it.
static const struct {
  uint16_t size, count;
} kCxx[] = {
    {8, 4},  {16, 14}, {24, 16}, {32, 22}, {40, 12}, {48, 12}, {56, 6},  {64, 9},  {72, 4},
    {80, 4}, {96, 6},  {112, 3}, {128, 5}, {160, 2}, {192, 2}, {256, 3}, {512, 2}, {1024, 2},
};

static void sizes_cxx(uint32_t sizes[SIZES]) {
  uint32_t at = 0;
  for (size_t line = 0; line < sizeof kCxx / sizeof *kCxx; line++) {
    for (uint32_t i = 0; i < kCxx[line].count * (SIZES / 128); i++) sizes[at++] = kCxx[line].size;
  }
}

void sizes_fill(uint32_t sizes[SIZES], const struct settings *s) {
  if (s->shape == SHAPE_CXX) {
    sizes_cxx(sizes);
    return;
  }
  const uint64_t min = s->min, max = s->max;
  for (uint32_t i = 0; i < SIZES; i++) {
    switch (s->shape) {
      case SHAPE_HEAVY:
        // Quantiles of the Pareto distribution with exponent 1, cut at max: half of the blocks are below 2 * min.
        sizes[i] = (uint32_t)(min * max / (max - (max - min) * i / SIZES));
        break;
      case SHAPE_BESIDE:
        // One block in 64 is of the given sizes, the others are small.
        sizes[i] = i % 64 == 0 ? (uint32_t)(min + (max - min) * i / SIZES) : 16 + i % 1024;
        break;
      default:
        sizes[i] = (uint32_t)(min + (max - min + 1) * i / SIZES);
    }
  }
}

// ---- sweep --------------------------------------------------------------------------------------

struct sweep {
  struct cell *cells;
  const uint32_t *sizes;
  const struct settings *settings;
  uint64_t state;
  uint32_t tag;
};

static void sweep_walk(struct sweep *w, uint64_t cycles) {
  const uint32_t ws = w->settings->ws;
  for (uint64_t i = 0; i < cycles; i++) {
    const uint64_t bits = random_next(&w->state);
    struct cell *c = &w->cells[random_below((uint32_t)(bits >> 32), ws)];
    if (c->p) {
      cell_give(c);
    } else {
      cell_take(c, w->sizes[bits % SIZES], ++w->tag, w->settings->touch);
    }
  }
}

static struct sweep sweep_begin(const struct lane *lane) {
  const struct settings *s = lane->settings;
  return (struct sweep){
      .cells = cells_map(s->ws), .sizes = lane->group, .settings = s, .state = random_start(s->seed, lane->index)};
}

static void sweep_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct sweep w = sweep_begin(lane);
  sweep_walk(&w, s->cycles / 10);
  lane_start(lane);
  sweep_walk(&w, s->cycles);
  const uint64_t drained = cells_drain(w.cells, s->ws);
  lane_end(lane, s->cycles + drained);
  munmap(w.cells, s->ws * sizeof *w.cells);
}

static struct result run_with_sizes(const struct settings *s, void (*body)(struct lane *)) {
  uint32_t *sizes = scratch_map(SIZES * sizeof *sizes);
  sizes_fill(sizes, s);
  const struct result r = lanes_run(s, sizes, body);
  munmap(sizes, SIZES * sizeof *sizes);
  return r;
}

struct result sweep_run(const struct settings *s) { return run_with_sizes(s, sweep_body); }

// ---- fragmented: one block in eight of a full heap stays, and what follows has other sizes ------

enum { PINNED = 8 };

static void fragmented_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct sweep w = sweep_begin(lane);
  struct cell *pinned = cells_map(s->ws);
  for (uint32_t i = 0; i < s->ws; i++) cell_take(&pinned[i], size_between(random_next(&w.state), s), i, s->touch);
  for (uint32_t i = 0; i < s->ws; i++) {
    if (i % PINNED != 0) cell_give(&pinned[i]);
  }
  lane_start(lane);
  sweep_walk(&w, s->cycles);
  const uint64_t drained = cells_drain(w.cells, s->ws);
  lane_end(lane, s->cycles + drained);
  cells_drain(pinned, s->ws);
  munmap(pinned, s->ws * sizeof *pinned);
  munmap(w.cells, s->ws * sizeof *w.cells);
}

struct result fragmented_run(const struct settings *s) {
  struct settings heavy = *s;
  heavy.shape = SHAPE_HEAVY;
  uint32_t *sizes = scratch_map(SIZES * sizeof *sizes);
  sizes_fill(sizes, &heavy);
  const struct result r = lanes_run(s, sizes, fragmented_body);
  munmap(sizes, SIZES * sizeof *sizes);
  return r;
}

// ---- hot: a batch of blocks of one size, freed in one of three orders ---------------------------

static void hot_batches(struct cell *cells, const uint32_t *order, const struct settings *s, uint64_t batches) {
  for (uint64_t batch = 0; batch < batches; batch++) {
    for (uint32_t i = 0; i < s->ws; i++) cell_take(&cells[i], s->min, (uint32_t)batch + i, s->touch);
    for (uint32_t i = 0; i < s->ws; i++) cell_give(&cells[order[i]]);
  }
}

static void hot_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct cell *cells = cells_map(s->ws);
  uint32_t *order = scratch_map(s->ws * sizeof *order);
  uint64_t state = random_start(s->seed, lane->index);
  for (uint32_t i = 0; i < s->ws; i++) order[i] = s->shape == SHAPE_LIFO ? s->ws - 1 - i : i;
  for (uint32_t i = s->ws; s->shape == SHAPE_RANDOM && i > 1; i--) {
    const uint32_t other = random_below((uint32_t)random_next(&state), i), kept = order[i - 1];
    order[i - 1] = order[other];
    order[other] = kept;
  }
  hot_batches(cells, order, s, s->cycles / 10);
  lane_start(lane);
  hot_batches(cells, order, s, s->cycles);
  lane_end(lane, 2 * s->cycles * s->ws);
  munmap(order, s->ws * sizeof *order);
  munmap(cells, s->ws * sizeof *cells);
}

struct result hot_run(const struct settings *s) { return lanes_run(s, NULL, hot_body); }

// ---- oscillate: a heap that swings between full and empty ---------------------------------------

static void oscillate_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct cell *cells = cells_map(s->ws);
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    for (uint32_t slot = 0; slot < s->ws; slot++) {
      cell_take(&cells[slot], size_between(random_next(&state), s), slot, s->touch);
    }
    cells_drain(cells, s->ws);
  }
  lane_end(lane, 2 * s->cycles * s->ws);
  munmap(cells, s->ws * sizeof *cells);
}

struct result oscillate_run(const struct settings *s) { return lanes_run(s, NULL, oscillate_body); }
