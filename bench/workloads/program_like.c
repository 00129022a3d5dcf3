// SPDX-License-Identifier: Apache-2.0
//
// Small programs: a tree of JSON values that is built, changed and written out (json_tree), a cache that drops what was
// used longest ago (lru_cache), the passes of a compiler over functions (compile_like). Each computes a result that is
// known without the heap.
#include <sys/mman.h>

#include "bench/workloads/checked.h"

static void *get(size_t size) {
  void *p = malloc(size);
  if (!p) out_of_memory(size);
  return p;
}

static void expect(uint64_t got, uint64_t wanted) {
  if (got != wanted) wrong_block("lost its contents: a program's result is wrong", 0);
}

// A text of 4 to 35 bytes, the first of which holds its length.
static unsigned char *text_new(uint64_t bits, uint64_t *sum) {
  const unsigned char length = (unsigned char)(4 + bits % 32), fill = (unsigned char)(bits >> 8);
  unsigned char *text = get(length);
  memset(text, fill, length);
  text[0] = length;
  *sum += length + (uint64_t)fill * (length - 1u);
  return text;
}

static uint64_t text_sum(const unsigned char *text) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < text[0]; i++) sum += text[i];
  return sum;
}

// ---- json_tree ----------------------------------------------------------------------------------

struct value {
  unsigned char *text;    // a key, or a string
  struct value **values;  // its members; the array grows with realloc
  uint32_t count, room;
};

enum { WIDTH = 8 };

static _Thread_local uint64_t made;  // calls of the current document

static struct value *value_new(uint64_t *state, uint32_t depth, uint64_t *sum) {
  struct value *v = get(sizeof *v);
  *v = (struct value){.text = text_new(random_next(state), sum)};
  made += 2;
  const uint32_t count = depth == 0 ? 0 : 1 + (uint32_t)(random_next(state) % WIDTH);
  for (uint32_t i = 0; i < count; i++) {
    if (v->count == v->room) {
      v->room = v->room ? 2 * v->room : 2;
      v->values = realloc(v->values, v->room * sizeof(struct value *));
      if (!v->values) out_of_memory(v->room * sizeof(struct value *));
      made++;
    }
    v->values[v->count++] = value_new(state, depth - 1, sum);
  }
  return v;
}

static uint64_t value_free(struct value *v) {
  uint64_t sum = text_sum(v->text);
  for (uint32_t i = 0; i < v->count; i++) sum += value_free(v->values[i]);
  made += v->values ? 3 : 2;
  free(v->values);
  free(v->text);
  free(v);
  return sum;
}

static void json_tree_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  uint64_t state = random_start(s->seed, lane->index), operations = 0;
  struct value **documents = scratch_map(s->ws * sizeof *documents);
  uint64_t *sums = scratch_map(s->ws * sizeof *sums);
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles + s->ws; i++) {
    const uint32_t at = (uint32_t)(i % s->ws);
    made = 0;
    if (documents[at]) expect(value_free(documents[at]), sums[at]);
    documents[at] = NULL;
    sums[at] = 0;
    if (i < s->cycles) documents[at] = value_new(&state, 5, &sums[at]);
    operations += made;
  }
  lane_end(lane, operations);
  munmap(sums, s->ws * sizeof *sums);
  munmap(documents, s->ws * sizeof *documents);
}

struct result json_tree_run(const struct settings *s) { return lanes_run(s, NULL, json_tree_body); }

// ---- lru_cache: a hash table with chains, and a list in the order of use ------------------------

struct entry {
  struct entry *chain, *newer, *older;
  uint64_t key;
  struct cell value;
};

struct cache {
  struct entry **chains;
  struct entry ends;  // ends.older is the newest, ends.newer the oldest
  uint32_t mask, count;
};

static void unlink_entry(struct entry *e) {
  e->newer->older = e->older;
  e->older->newer = e->newer;
}

static void link_newest(struct cache *c, struct entry *e) {
  e->newer = &c->ends;
  e->older = c->ends.older;
  e->older->newer = e;
  c->ends.older = e;
}

static void drop_oldest(struct cache *c) {
  struct entry *e = c->ends.newer;
  unlink_entry(e);
  struct entry **at = &c->chains[e->key & c->mask];
  while (*at != e) at = &(*at)->chain;
  *at = e->chain;
  if (e->value.tag != (uint32_t)e->key) wrong_block("lost its contents", sizeof *e);
  cell_give(&e->value);
  free(e);
  c->count--;
}

// Returns how many calls it made.
static uint64_t lookup(struct cache *c, uint64_t key, uint64_t bits, const struct settings *s) {
  for (struct entry *e = c->chains[key & c->mask]; e; e = e->chain) {
    if (e->key != key) continue;
    cell_check(&e->value);
    unlink_entry(e);
    link_newest(c, e);
    return 0;
  }
  struct entry *e = get(sizeof *e);
  e->key = key;
  cell_take(&e->value, size_between(bits, s), (uint32_t)key, s->touch);
  e->chain = c->chains[key & c->mask];
  c->chains[key & c->mask] = e;
  link_newest(c, e);
  if (++c->count <= s->ws) return 2;
  drop_oldest(c);
  return 4;
}

static void lru_cache_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  uint32_t chains = 1;
  while (chains < s->ws) chains *= 2;
  struct cache c = {.chains = calloc(chains, sizeof(struct entry *)), .mask = chains - 1};
  if (!c.chains) out_of_memory(chains * sizeof(struct entry *));
  c.ends.newer = c.ends.older = &c.ends;
  uint64_t state = random_start(s->seed, lane->index), operations = 0;
  lane_start(lane);
  for (uint64_t i = 0; i < s->cycles; i++) {
    const uint64_t bits = random_next(&state);
    // The product of two uniform numbers: some keys come often. The keys are twice as many as the entries.
    const uint64_t key = random_below(random_below((uint32_t)(bits >> 32), UINT32_MAX) >> (bits % 4), 2 * s->ws);
    operations += lookup(&c, key, bits, s);
  }
  while (c.count) {
    drop_oldest(&c);
    operations += 2;
  }
  lane_end(lane, operations);
  free(c.chains);
}

struct result lru_cache_run(const struct settings *s) { return lanes_run(s, NULL, lru_cache_body); }

// ---- compile_like: for each function a tree, passes that replace nodes, a table of names that stays -----------------

struct tree {
  struct tree *left, *right;
  uint64_t value;
};

static struct tree *tree_new(uint64_t *state, uint32_t nodes, uint64_t *sum) {
  if (nodes == 0) return NULL;
  struct tree *t = get(sizeof *t + random_next(state) % 48);
  const uint32_t left = (nodes - 1) / 2;
  t->value = random_next(state);
  *sum += t->value;
  t->left = tree_new(state, left, sum);
  t->right = tree_new(state, nodes - 1 - left, sum);
  return t;
}

// A pass: each third node is replaced by another one. Returns how many.
static uint64_t tree_pass(struct tree **at, uint64_t *count) {
  struct tree *t = *at;
  if (!t) return 0;
  uint64_t replaced = 0;
  if (++*count % 3 == 0) {
    struct tree *other = get(sizeof *other + *count % 64);
    *other = *t;
    free(t);
    *at = t = other;
    replaced = 1;
  }
  replaced += tree_pass(&t->left, count);
  return replaced + tree_pass(&t->right, count);
}

static uint64_t tree_free(struct tree *t) {
  if (!t) return 0;
  const uint64_t sum = t->value + tree_free(t->left) + tree_free(t->right);
  free(t);
  return sum;
}

static void compile_like_body(struct lane *lane) {
  const struct settings *s = lane->settings;
  uint64_t state = random_start(s->seed, lane->index), operations = 0, names_sum = 0;
  unsigned char **names = scratch_map(s->cycles * sizeof *names);
  lane_start(lane);
  for (uint64_t function = 0; function < s->cycles; function++) {
    uint64_t sum = 0, count = 0;
    names[function] = text_new(random_next(&state), &names_sum);
    struct tree *t = tree_new(&state, s->ws, &sum);
    for (int pass = 0; pass < 4; pass++) operations += 2 * tree_pass(&t, &count);
    expect(tree_free(t), sum);
    operations += 2 * s->ws + 1;
  }
  for (uint64_t i = 0; i < s->cycles; i++) {
    names_sum -= text_sum(names[i]);
    free(names[i]);
  }
  expect(names_sum, 0);
  lane_end(lane, operations + s->cycles);
  munmap(names, s->cycles * sizeof *names);
}

struct result compile_like_run(const struct settings *s) { return lanes_run(s, NULL, compile_like_body); }
