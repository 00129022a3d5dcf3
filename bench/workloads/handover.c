// SPDX-License-Identifier: Apache-2.0
//
// Blocks that one thread allocates and another frees: through mailboxes (handover), through a queue with a lock
// (producer_consumer), with the slots of a thread that ends (larson), left behind by threads that live briefly
// (thread_churn), and side by side in one cache line (sharing).
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench/workloads/checked.h"
#include "bench/workloads/pin.h"

static void thread_start(pthread_t *thread, void *(*body)(void *), void *arg) {
  if (pthread_create(thread, NULL, body, arg) != 0) {
    fprintf(stderr, "random_mixed: cannot start a thread\n");
    exit(1);
  }
}

// ---- handover -----------------------------------------------------------------------------------

enum { PLACES = 512 };

// What each block begins with, so that the receiver can check it; it ends with the tag.
struct letter {
  uint32_t size, tag;
};

struct mailbox {
  _Alignas(64) _Atomic(void *) places[PLACES];
};

// The processors of the threads; -1: any.
static int processors[2] = {-1, -1};

static void letter_check(const void *p) {
  struct letter letter;
  memcpy(&letter, p, sizeof letter);
  uint32_t last;
  // A wrong size would lead behind the block.
  if (letter.size < sizeof letter + sizeof last || letter.size > 1u << 30) wrong_block("lost its contents", 0);
  memcpy(&last, (const unsigned char *)p + letter.size - sizeof last, sizeof last);
  if (last != letter.tag) wrong_block("lost its contents", letter.size);
}

static void *letter_new(uint32_t size, uint32_t tag) {
  const struct letter letter = {size, tag};
  unsigned char *p = malloc(size);
  if (!p) out_of_memory(size);
  memcpy(p, &letter, sizeof letter);
  memcpy(p + size - sizeof tag, &tag, sizeof tag);
  return p;
}

static void letter_free(void *p, bool read) {
  if (read) letter_check(p);
  free(p);
}

static uint32_t receiver_of(const struct settings *s, uint32_t index) {
  switch (s->shape) {
    case SHAPE_RING:
      return (index + 1) % s->threads;
    case SHAPE_FAN_IN:
      return 0;
    default:
      // The last of an odd number of threads has no partner.
      return (index ^ 1) < s->threads ? index ^ 1 : 0;
  }
}

static uint64_t handover_walk(struct lane *lane, void **slots, uint64_t *state, uint64_t cycles) {
  const struct settings *s = lane->settings;
  struct mailbox *boxes = lane->group;
  struct mailbox *mine = &boxes[lane->index], *to = &boxes[receiver_of(s, lane->index)];
  const bool read = s->shape != SHAPE_PAIR;
  uint64_t operations = 0;
  for (uint64_t i = 0; i < cycles; i++) {
    const uint64_t bits = random_next(state);
    void **slot = &slots[random_below((uint32_t)(bits >> 32), s->ws)];
    if (!*slot) {
      *slot = letter_new(size_between(bits, s), (uint32_t)i);
      operations++;
      continue;
    }
    void *p = *slot;
    *slot = NULL;
    const uint64_t scaled = (bits & UINT32_MAX) * 100;
    if ((uint32_t)(scaled >> 32) >= s->remote) {
      letter_free(p, true);
      operations++;
      continue;
    }
    const uint32_t place = random_below((uint32_t)scaled, PLACES);
    // What the receiver has not taken yet comes back, and is freed here.
    p = atomic_exchange_explicit(&to->places[place], p, memory_order_acq_rel);
    if (p) {
      letter_free(p, read);
      operations++;
    }
    p = atomic_exchange_explicit(&mine->places[place], NULL, memory_order_acq_rel);
    if (p) {
      letter_free(p, read);
      operations++;
    }
  }
  return operations;
}

static void handover_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  const size_t bytes = s->ws * sizeof(void *);
  void **slots = scratch_map(bytes);
  memset(slots, 0, bytes);
  uint64_t state = random_start(s->seed, lane->index);
  const int processor = processors[lane->index % 2];
  if (processor >= 0 && !pin_to(processor)) {
    fprintf(stderr, "random_mixed: cannot run on processor %d\n", processor);
    exit(1);
  }
  handover_walk(lane, slots, &state, s->cycles / 10);
  lane_start(lane);
  uint64_t operations = handover_walk(lane, slots, &state, s->cycles);
  for (uint32_t i = 0; i < s->ws; i++) {
    if (!slots[i]) continue;
    letter_free(slots[i], true);
    operations++;
  }
  lane_end(lane, operations);
  munmap(slots, bytes);
}

struct result handover_run(const struct settings *s) {
  const size_t bytes = s->threads * sizeof(struct mailbox);
  if (s->shape == SHAPE_PAIR_NEAR || s->shape == SHAPE_PAIR_FAR) {
    uint64_t ns;
    if (pin_choose(s->shape == SHAPE_PAIR_NEAR, processors, &ns)) {
      printf("Processors = %d and %d, %" PRIu64 " ns for a cache line there and back\n", processors[0], processors[1],
             ns);
    } else {
      printf("Processors = only one\n");
    }
  }
  struct mailbox *boxes = scratch_map(bytes);
  const struct result r = lanes_run(s, boxes, handover_body);
  for (uint32_t i = 0; i < s->threads; i++) {
    for (int place = 0; place < PLACES; place++) {
      void *p = atomic_load(&boxes[i].places[place]);
      if (p) letter_free(p, true);
    }
  }
  munmap(boxes, bytes);
  return r;
}

// ---- producer_consumer: nodes and their contents, in a list with a lock -------------------------

struct node {
  struct node *next;
  struct cell cell;
};

struct list {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct node *first, **end;
  uint32_t length, longest;  // longest: 0 is no bound
};

static void list_put(struct list *list, struct node *node) {
  node->next = NULL;
  pthread_mutex_lock(&list->lock);
  while (list->longest && list->length == list->longest) pthread_cond_wait(&list->changed, &list->lock);
  *list->end = node;
  list->end = &node->next;
  if (list->length++ == 0) pthread_cond_signal(&list->changed);
  pthread_mutex_unlock(&list->lock);
}

static struct node *list_get(struct list *list) {
  pthread_mutex_lock(&list->lock);
  while (list->length == 0) pthread_cond_wait(&list->changed, &list->lock);
  struct node *node = list->first;
  list->first = node->next;
  if (!list->first) list->end = &list->first;
  if (list->length-- == list->longest) pthread_cond_signal(&list->changed);
  pthread_mutex_unlock(&list->lock);
  return node;
}

static void producer_consumer_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct list *list = (struct list *)lane->group + lane->index / 2;
  uint64_t state = random_start(s->seed, lane->index);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    if (lane->index % 2 == 0) {
      struct node *node = malloc(sizeof *node);
      if (!node) out_of_memory(sizeof *node);
      cell_take(&node->cell, size_between(random_next(&state), s), (uint32_t)i, s->touch);
      list_put(list, node);
    } else {
      struct node *node = list_get(list);
      if (node->cell.tag != (uint32_t)i) wrong_block("of a list has the contents of another", sizeof *node);
      cell_give(&node->cell);
      free(node);
    }
  }
  lane_end(lane, 2 * s->cycles);
}

struct result producer_consumer_run(const struct settings *s) {
  const size_t pairs = s->threads / 2;
  struct list *lists = scratch_map(pairs * sizeof *lists);
  for (size_t i = 0; i < pairs; i++) {
    pthread_mutex_init(&lists[i].lock, NULL);
    pthread_cond_init(&lists[i].changed, NULL);
    lists[i].end = &lists[i].first;
    lists[i].longest = s->shape == SHAPE_BOUNDED ? s->ws : 0;
  }
  const struct result r = lanes_run(s, lists, producer_consumer_body);
  for (size_t i = 0; i < pairs; i++) {
    pthread_cond_destroy(&lists[i].changed);
    pthread_mutex_destroy(&lists[i].lock);
  }
  munmap(lists, pairs * sizeof *lists);
  return r;
}

// ---- larson: a thread that ends hands its blocks to the next one --------------------------------

enum { LIFE = 1000 };

struct life {
  const struct settings *settings;
  struct cell *cells;
  uint64_t state, cycles;
};

static void *larson_life(void *arg) {
  struct life *life = arg;
  const struct settings *s = life->settings;
  for (uint64_t i = 0; i < life->cycles; i++) {
    const uint64_t bits = random_next(&life->state);
    struct cell *c = &life->cells[random_below((uint32_t)(bits >> 32), s->ws)];
    if (c->p) cell_give(c);
    cell_take(c, size_between(bits, s), (uint32_t)bits, s->touch);
  }
  return NULL;
}

static void larson_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct life life = {.settings = s, .cells = cells_map(s->ws), .state = random_start(s->seed, lane->index)};
  life.cycles = s->ws;
  larson_life(&life);  // fills most slots
  lane_start(lane);
  for (uint64_t left = s->cycles; left; left -= life.cycles) {
    pthread_t thread;
    life.cycles = left < LIFE ? left : LIFE;
    thread_start(&thread, larson_life, &life);
    pthread_join(thread, NULL);
  }
  const uint64_t drained = cells_drain(life.cells, s->ws);
  lane_end(lane, 2 * s->cycles + drained);
  munmap(life.cells, s->ws * sizeof *life.cells);
}

struct result larson_run(const struct settings *s) { return lanes_run(s, NULL, larson_body); }

// ---- thread_churn: threads that allocate a little, free half, and end ---------------------------

static void *brief_life(void *arg) {
  struct life *life = arg;
  const struct settings *s = life->settings;
  for (uint32_t i = 0; i < s->ws; i++)
    cell_take(&life->cells[i], size_between(random_next(&life->state), s), i, s->touch);
  for (uint32_t i = 0; i < s->ws; i += 2) cell_give(&life->cells[i]);
  return NULL;
}

static void thread_churn_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct life life = {.settings = s, .cells = cells_map(s->ws), .state = random_start(s->seed, lane->index)};
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    pthread_t thread;
    thread_start(&thread, brief_life, &life);
    pthread_join(thread, NULL);
    cells_drain(life.cells, s->ws);
  }
  lane_end(lane, 2 * s->cycles * s->ws);
  munmap(life.cells, s->ws * sizeof *life.cells);
}

struct result thread_churn_run(const struct settings *s) { return lanes_run(s, NULL, thread_churn_body); }

// ---- sharing: threads write again and again to small blocks -------------------------------------
// active: the allocator gives blocks of one cache line to two threads. passive: a thread frees a block that another one
// allocated, and gets a part of the other's cache line by that.

enum { WRITES = 100 };

static void sharing_writes(struct cell *c) {
  volatile unsigned char *middle = c->p + c->size / 2;
  for (int i = 0; i < WRITES; i++) *middle = (unsigned char)(*middle + 1);
}

static void sharing_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  struct cell *first = (struct cell *)lane->group + lane->index;
  uint64_t operations = 0;
  struct cell c = *first;
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    if (c.p) {
      cell_give(&c);
      operations++;
    }
    cell_take(&c, s->min, (uint32_t)i, s->touch);
    c.p[s->min / 2] = 0;
    sharing_writes(&c);
    if (c.p[s->min / 2] != WRITES) wrong_block("was written by two threads", s->min);
    operations++;
  }
  cell_give(&c);
  lane_end(lane, operations + 1);
}

struct result sharing_run(const struct settings *s) {
  struct cell *first = cells_map(s->threads);
  // One thread allocates the first blocks of all, side by side.
  for (uint32_t i = 0; s->shape == SHAPE_PASSIVE && i < s->threads; i++) cell_take(&first[i], s->min, i, s->touch);
  const struct result r = lanes_run(s, first, sharing_body);
  munmap(first, s->threads * sizeof *first);
  return r;
}
