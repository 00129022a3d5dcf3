// SPDX-License-Identifier: Apache-2.0
//
// realloc as programs use it (realloc_growth), calloc (calloc_zero), aligned blocks (aligned).
#include <sys/mman.h>

#include "bench/workloads/checked.h"

// ---- realloc_growth -----------------------------------------------------------------------------
// vector: the room doubles; string: each append asks for exactly the new length; pages: 4 KiB more each time. What a
// buffer holds is a sum that is known, so a byte that is lost or mixed up is noticed at its end.

struct text {
  unsigned char *bytes;
  size_t length, room, limit;
  uint32_t seed;
};

static unsigned char byte_at(const struct text *t, size_t at) { return (unsigned char)((at * 7 + t->seed) >> 1); }

static void text_end(struct text *t) {
  for (size_t i = 0; i < t->length; i++) {
    if (t->bytes[i] != byte_at(t, i)) wrong_block("lost its contents in realloc", t->room);
  }
  free(t->bytes);
  t->bytes = NULL;
}

static size_t more(const struct settings *s, uint64_t bits) {
  if (s->shape == SHAPE_PAGES) return PAGE_BYTES;
  return s->shape == SHAPE_VECTOR ? 16 : 1 + bits % 64;
}

// Appends once; true if realloc was called.
static bool text_append(struct text *t, const struct settings *s, uint64_t bits) {
  const size_t length = t->length + more(s, bits);
  const bool called = length > t->room;
  if (called) {
    size_t room = length;
    if (s->shape == SHAPE_VECTOR) room = t->room ? 2 * t->room : 16;
    unsigned char *p = realloc(t->bytes, room);
    if (!p) out_of_memory(room);
    t->bytes = p;
    t->room = room;
  }
  for (; t->length < length; t->length++) t->bytes[t->length] = byte_at(t, t->length);
  return called;
}

static void realloc_growth_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t bytes = s->ws * sizeof(struct text);
  struct text *texts = scratch_map(bytes);
  memset(texts, 0, bytes);
  uint64_t state = random_start(s->seed, lane->index), operations = 0;
  lane_start(lane);
  while (operations < s->cycles) {
    const uint64_t bits = random_next(&state);
    struct text *t = &texts[random_below((uint32_t)(bits >> 32), s->ws)];
    if (!t->bytes) {
      *t = (struct text){.limit = size_between(bits, s), .seed = (uint32_t)bits};
    }
    if (text_append(t, s, bits)) operations++;
    if (t->length >= t->limit) {
      text_end(t);
      operations++;
    }
  }
  for (uint32_t i = 0; i < s->ws; i++) {
    if (!texts[i].bytes) continue;
    text_end(&texts[i]);
    operations++;
  }
  lane_end(lane, operations);
  munmap(texts, bytes);
}

struct result realloc_growth_run(const struct settings *s) { return lanes_run(s, NULL, realloc_growth_body); }

// ---- calloc_zero and aligned: slots that are filled and freed at random -------------------------

// Looks at the ends and at a byte of each cache line: more would measure the look.
static void require_zero(const unsigned char *p, uint32_t size) {
  unsigned char all = p[size - 1];
  for (uint32_t at = 0; at < size; at += 64) all |= p[at];
  if (all != 0) wrong_block("is from calloc and not zero", size);
}

static void *zeroed(uint64_t bits, uint32_t size) {
  (void)bits;
  void *p = calloc(1, size);
  if (!p) out_of_memory(size);
  require_zero(p, size);
  return p;
}

static void *aligned_to(uint64_t bits, uint32_t size) {
  const size_t alignment = (size_t)32 << (bits >> 29) % 8;
  void *p = NULL;
  if (posix_memalign(&p, alignment, size) != 0) out_of_memory(size);
  if ((uintptr_t)p % alignment != 0) wrong_block("is not aligned", size);
  return p;
}

static void slots_body(struct lane *lane, void *(*take)(uint64_t, uint32_t)) {
  const struct settings *s = lane->settings;
  struct cell *cells = cells_map(s->ws);
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    const uint64_t bits = random_next(&state);
    struct cell *c = &cells[random_below((uint32_t)(bits >> 32), s->ws)];
    if (c->p) {
      cell_give(c);
      continue;
    }
    // Odd, because mimalloc 2.0.9 misaligns blocks whose size is a multiple of an alignment of 256 to 1,024.
    const uint32_t size = size_between(bits, s) | 1;
    void *p = take(bits, size);
    // All of it is written to, so that the next block here must be cleared.
    if (s->touch == TOUCH_ALL) memset(p, 0xA5, size);
    cell_fill(c, p, size, (uint32_t)i);
  }
  const uint64_t drained = cells_drain(cells, s->ws);
  lane_end(lane, s->cycles + drained);
  munmap(cells, s->ws * sizeof *cells);
}

static void calloc_zero_body(struct lane *lane) { slots_body(lane, zeroed); }
static void aligned_body(struct lane *lane) { slots_body(lane, aligned_to); }

struct result calloc_zero_run(const struct settings *s) { return lanes_run(s, NULL, calloc_zero_body); }
struct result aligned_run(const struct settings *s) { return lanes_run(s, NULL, aligned_body); }
