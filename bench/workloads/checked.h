// SPDX-License-Identifier: Apache-2.0
//
// Blocks that the workloads check: each knows what its first and last bytes must be, so an allocator that hands out a
// block twice, or changes one, ends the run. The no-op floor cannot run such a workload.
#ifndef HAKMEM_BENCH_WORKLOADS_CHECKED_H_
#define HAKMEM_BENCH_WORKLOADS_CHECKED_H_

#include <string.h>

#include "bench/workloads/workload.h"

struct cell {
  unsigned char *p;
  uint32_t size, tag;
};

// Blocks of fewer bytes hold the lowest byte of the tag only.
enum { TAGGED = sizeof(uint32_t), SIZES = 4096, PAGE_BYTES = 4096 };

static inline void cell_fill(struct cell *c, void *p, uint32_t size, uint32_t tag) {
  if (!p) out_of_memory(size);
  *c = (struct cell){p, size, tag};
  if (size < TAGGED) {
    c->p[0] = (unsigned char)tag;
    return;
  }
  memcpy(c->p, &tag, TAGGED);
  memcpy(c->p + size - TAGGED, &tag, TAGGED);
}

// Whether the first `size` bytes of `p` begin and end with the tag.
static inline bool cell_is_intact(const unsigned char *p, uint32_t size, uint32_t tag) {
  if (size < TAGGED) return p[0] == (unsigned char)tag;
  uint32_t first, last;
  memcpy(&first, p, TAGGED);
  memcpy(&last, p + size - TAGGED, TAGGED);
  // In a block of fewer than eight bytes the second tag covers a part of the first.
  return last == tag && (first == tag || size < 2 * TAGGED);
}

static inline void cell_check(const struct cell *c) {
  if (!cell_is_intact(c->p, c->size, c->tag)) wrong_block("lost its contents", c->size);
}

static inline void cell_take(struct cell *c, uint32_t size, uint32_t tag, enum touch_kind touch) {
  void *p = malloc(size);
  if (p && touch == TOUCH_ALL) memset(p, 0x5A, size);
  cell_fill(c, p, size, tag);
}

static inline void cell_give(struct cell *c) {
  cell_check(c);
  free(c->p);
  c->p = NULL;
}

// Resident from the start, so that the harness's page faults are not measured.
static inline struct cell *cells_map(size_t count) {
  struct cell *cells = scratch_map(count * sizeof *cells);
  memset(cells, 0, count * sizeof *cells);
  return cells;
}

// Frees what is left, and returns how many blocks that were.
static inline uint64_t cells_drain(struct cell *cells, size_t count) {
  uint64_t freed = 0;
  for (size_t i = 0; i < count; i++) {
    if (!cells[i].p) continue;
    cell_give(&cells[i]);
    freed++;
  }
  return freed;
}

static inline uint32_t size_between(uint64_t bits, const struct settings *s) {
  return s->min + random_below((uint32_t)bits, s->max - s->min + 1);
}

// The sizes of a workload's shape, each as often as it is drawn.
void sizes_fill(uint32_t sizes[SIZES], const struct settings *s);

#endif  // HAKMEM_BENCH_WORKLOADS_CHECKED_H_
