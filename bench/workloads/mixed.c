// SPDX-License-Identifier: Apache-2.0
//
// The mixed loop: pick a random slot; if it holds a block, free it, otherwise fill it with a new one. Each cycle is one
// malloc or one free. The variant (what is written into a block, whether threads exchange blocks) is chosen before the
// loop starts, so the loop has no cost for what it does not do.
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/workloads/workload.h"

enum { EXCHANGE_SLOTS = 4096 };

// The places where threads swap blocks, with --remote.
struct exchange {
  _Atomic(void *) slots[EXCHANGE_SLOTS];
};

struct walk {
  void **slots;
  struct exchange *exchange;
  uint64_t state;
  uint32_t ws, min, sizes;  // sizes: the number of different sizes
  uint32_t remote;
  uint64_t skipped;  // exchanges with an empty place, where nothing was freed
};

__attribute__((always_inline)) static inline void touch_block(unsigned char *p, size_t size, enum touch_kind touch) {
  if (touch == TOUCH_ALL) {
    memset(p, 0x5A, size);
    return;
  }
  p[0] = 0x5A;
  if (touch == TOUCH_ENDS) p[size - 1] = 0x5A;
}

__attribute__((always_inline)) static inline void walk_independent(struct walk *w, uint64_t cycles,
                                                                   enum touch_kind touch, bool exchange) {
  void **const slots = w->slots;
  const uint32_t ws = w->ws, min = w->min, sizes = w->sizes, remote = w->remote;
  uint64_t state = w->state;
  uint64_t skipped = 0;
  for (uint64_t i = 0; i < cycles; i++) {
    const uint64_t bits = random_next(&state);
    const uint32_t low = (uint32_t)bits;
    void **slot = &slots[random_below((uint32_t)(bits >> 32), ws)];
    void *p = *slot;
    if (p) {
      *slot = NULL;
      if (exchange) {
        // The integer part of low * 100 / 2^32 decides whether to swap, the fraction with which place.
        const uint64_t scaled = (uint64_t)low * 100;
        if ((uint32_t)(scaled >> 32) < remote) {
          p = atomic_exchange_explicit(&w->exchange->slots[random_below((uint32_t)scaled, EXCHANGE_SLOTS)], p,
                                       memory_order_acq_rel);
          if (!p) {
            skipped++;
            continue;
          }
        }
      }
      free(p);
    } else {
      const size_t size = min + random_below(low, sizes);
      p = malloc(size);
      if (!p) out_of_memory(size);
      touch_block(p, size, touch);
      *slot = p;
    }
  }
  w->state = state;
  w->skipped += skipped;
}

// The loop of the research allocator from which hakmem descends. One 32-bit number chooses slot and size, so a slot
// sees only some sizes. Kept for comparison with older results.
__attribute__((always_inline)) static inline void walk_seed(struct walk *w, uint64_t cycles, enum touch_kind touch) {
  void **const slots = w->slots;
  const uint32_t ws = w->ws;
  uint32_t r = (uint32_t)w->state;
  for (uint64_t i = 0; i < cycles; i++) {
    r ^= r << 13;
    r ^= r >> 17;
    r ^= r << 5;
    void **slot = &slots[r % ws];
    void *p = *slot;
    if (p) {
      free(p);
      *slot = NULL;
    } else {
      const size_t size = 16 + (r & 0x3FF);
      p = malloc(size);
      if (!p) out_of_memory(size);
      touch_block(p, size, touch);
      *slot = p;
    }
  }
  w->state = r;
}

typedef void (*walk_fn)(struct walk *, uint64_t);

#define WALK(name, call) \
  __attribute__((noinline)) static void name(struct walk *w, uint64_t cycles) { call; }
WALK(seed_first, walk_seed(w, cycles, TOUCH_FIRST))
WALK(seed_ends, walk_seed(w, cycles, TOUCH_ENDS))
WALK(seed_all, walk_seed(w, cycles, TOUCH_ALL))
WALK(local_first, walk_independent(w, cycles, TOUCH_FIRST, false))
WALK(local_ends, walk_independent(w, cycles, TOUCH_ENDS, false))
WALK(local_all, walk_independent(w, cycles, TOUCH_ALL, false))
WALK(exchange_first, walk_independent(w, cycles, TOUCH_FIRST, true))
WALK(exchange_ends, walk_independent(w, cycles, TOUCH_ENDS, true))
WALK(exchange_all, walk_independent(w, cycles, TOUCH_ALL, true))

static walk_fn walk_choose(const struct settings *s) {
  static const walk_fn seed[] = {seed_first, seed_ends, seed_all};
  static const walk_fn local[] = {local_first, local_ends, local_all};
  static const walk_fn exchange[] = {exchange_first, exchange_ends, exchange_all};
  if (s->rng == RNG_SEED) return seed[s->touch];
  return s->remote ? exchange[s->touch] : local[s->touch];
}

// A known slowdown, to check that a comparison finds it. The multiplications form a long chain, because the processor
// would hide a few of them behind other waits.
static void walk_dragged(struct walk *w, walk_fn walk, uint64_t cycles, uint32_t drag) {
  uint64_t product = w->state | 1;
  while (cycles > 0) {
    const uint64_t slice = cycles < DRAG_EVERY ? cycles : DRAG_EVERY;
    walk(w, slice);
    cycles -= slice;
    for (uint32_t i = 0; i < drag; i++) {
      product *= UINT64_C(0xBF58476D1CE4E5B9);
      __asm__ volatile("" : "+r"(product));
    }
  }
}

static uint64_t drain(struct walk *w) {
  uint64_t freed = 0;
  for (uint32_t i = 0; i < w->ws; i++) {
    if (w->slots[i]) {
      free(w->slots[i]);
      freed++;
    }
  }
  return freed;
}

static void mixed_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const walk_fn walk = walk_choose(s);
  const size_t bytes = s->ws * sizeof(void *);
  struct walk w = {
      .slots = scratch_map(bytes),
      .exchange = lane->group,
      .state = s->rng == RNG_SEED ? s->seed + lane->index : random_start(s->seed, lane->index),
      .ws = s->ws,
      .min = s->min,
      .sizes = s->max - s->min + 1,
      .remote = s->remote,
  };
  memset(w.slots, 0, bytes);  // page faults of the harness before the clock starts
  floor_enter();
  walk(&w, s->cycles / 10);
  w.skipped = 0;
  lane_start(lane);
  if (s->drag > 0) {
    walk_dragged(&w, walk, s->cycles, s->drag);
  } else {
    walk(&w, s->cycles);
  }
  uint64_t drained = drain(&w);
  lane_end(lane, s->cycles - w.skipped + drained);
  floor_leave();
  munmap(w.slots, bytes);
}

struct result mixed_run(const struct settings *s) {
  struct exchange *exchange = s->remote ? scratch_map(sizeof *exchange) : NULL;
  struct result r = lanes_run(s, exchange, mixed_body);
  if (exchange) {
    for (int i = 0; i < EXCHANGE_SLOTS; i++) free(atomic_load(&exchange->slots[i]));
    munmap(exchange, sizeof *exchange);
  }
  return r;
}

// ---- Growth -------------------------------------------------------------------------------------

static void *new_block(const struct walk *w, uint64_t *state, enum touch_kind touch) {
  const size_t size = w->min + random_below((uint32_t)random_next(state), w->sizes);
  void *p = malloc(size);
  if (!p) out_of_memory(size);
  touch_block(p, size, touch);
  return p;
}

// Fills all slots once, then replaces blocks at random. There is no warm-up, because the first touch of memory is
// measured.
static void growth_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t bytes = s->ws * sizeof(void *);
  struct walk w = {.slots = scratch_map(bytes), .ws = s->ws, .min = s->min, .sizes = s->max - s->min + 1};
  memset(w.slots, 0, bytes);
  uint64_t state = random_start(s->seed, lane->index);
  floor_enter();
  lane_start(lane);
  for (uint32_t i = 0; i < s->ws; i++) w.slots[i] = new_block(&w, &state, s->touch);
  for (uint64_t i = 0; i < s->cycles; i++) {
    void **slot = &w.slots[random_below((uint32_t)(random_next(&state) >> 32), s->ws)];
    free(*slot);
    *slot = new_block(&w, &state, s->touch);
  }
  lane_end(lane, s->ws + 2 * s->cycles);
  drain(&w);
  floor_leave();
  munmap(w.slots, bytes);
}

struct result growth_run(const struct settings *s) { return lanes_run(s, NULL, growth_body); }
