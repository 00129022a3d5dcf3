// SPDX-License-Identifier: Apache-2.0
//
// The two ways in which the workloads hold their blocks.
#include <string.h>

#include "bench/soak/soak.h"

static uint64_t mapped;

void harness_add(size_t bytes) { mapped += bytes; }
uint64_t harness_bytes(void) { return mapped; }

void *harness_map(size_t bytes) {
  void *p = scratch_map(bytes);
  memset(p, 0, bytes);
  harness_add((bytes + PAGE - 1) & ~(size_t)(PAGE - 1));
  return p;
}

void population_init(struct population *p, size_t capacity, uint64_t seed) {
  *p = (struct population){
      .blocks = harness_map(capacity * sizeof(struct block)), .capacity = capacity, .state = random_start(seed, 1)};
}

void population_add(struct population *p, struct counts *c, uint32_t low, uint32_t high) {
  if (p->count == p->capacity) soak_fail("a population of more than %zu blocks", p->capacity);
  const struct block b = block_take(c, size_between(random_next(&p->state), low, high));
  p->blocks[p->count++] = b;
  p->live += b.size;
}

void population_drop(struct population *p, struct counts *c) {
  struct block *victim = &p->blocks[(random_next(&p->state) >> 32) * p->count >> 32];
  const struct block b = *victim;
  *victim = p->blocks[--p->count];
  p->live -= b.size;
  block_give(c, b);
}

void slots_init(struct slots *s, uint32_t count, uint64_t seed) {
  *s = (struct slots){
      .blocks = harness_map(count * sizeof(struct block)), .count = count, .state = random_start(seed, 0)};
}

void slots_walk(struct slots *s, uint32_t ws, struct counts *c, uint32_t cycles) {
  uint64_t state = s->state;
  for (uint32_t i = 0; i < cycles; i++) {
    const uint64_t bits = random_next(&state);
    struct block *slot = &s->blocks[random_below((uint32_t)(bits >> 32), ws)];
    if (slot->p) {
      block_give(c, *slot);
      slot->p = NULL;
    } else {
      *slot = block_take(c, size_between(bits, 16, 1039));
    }
  }
  s->state = state;
}
