// SPDX-License-Identifier: Apache-2.0
//
// The index of free runs: which tree a size belongs to, and the first tree that is not empty.
#include "allocator/pages/run_index.h"

#include "allocator/pages/run_tree.h"

// The tree of runs of `size` bytes; HAK_RUN_TREES or more: no run is so large.
static size_t tree_of(size_t size) {
  const size_t pages = size >> HAK_PAGE_SHIFT;
  if (pages < HAK_RUN_STEPS) return pages;
  const uint32_t shift = 63u - (uint32_t)__builtin_clzll(pages) - HAK_RUN_STEPS_SHIFT;
  return ((size_t)shift << HAK_RUN_STEPS_SHIFT) + (pages >> shift);
}
static_assert(HAK_RUN_TREES == ((HAK_PAGE_MAP_BITS - HAK_PAGE_SHIFT - 1 - HAK_RUN_STEPS_SHIFT) << HAK_RUN_STEPS_SHIFT) +
                                   2 * HAK_RUN_STEPS,
              "the largest run has the last tree");

void hak_run_index_insert(struct hak_run_index *index, struct hak_run *run) {
  const size_t tree = tree_of(run->size);
  hak_run_tree_insert(&index->roots[tree], run);
  index->some[tree / 64] |= (uint64_t)1 << (tree % 64);
}

void hak_run_index_remove(struct hak_run_index *index, struct hak_run *run) {
  const size_t tree = tree_of(run->size);
  hak_run_tree_remove(&index->roots[tree], run);
  if (index->roots[tree] == NULL) index->some[tree / 64] &= ~((uint64_t)1 << (tree % 64));
}

// The first tree from `tree` on that is not empty; NULL: there is none.
static struct hak_run *next_root(const struct hak_run_index *index, size_t tree) {
  uint64_t mask = UINT64_MAX << (tree % 64);
  for (size_t word = tree / 64; word < sizeof index->some / sizeof *index->some; word++) {
    const uint64_t some = index->some[word] & mask;
    if (some != 0) return index->roots[word * 64 + (uint32_t)__builtin_ctzll(some)];
    mask = UINT64_MAX;
  }
  return NULL;
}

struct hak_run *hak_run_index_find(const struct hak_run_index *index, size_t size, const char *start) {
  const size_t tree = tree_of(size);
  if (HAK_UNLIKELY(tree >= HAK_RUN_TREES)) return NULL;
  struct hak_run *run = hak_run_tree_find(index->roots[tree], size, start);
  if (run != NULL) return run;
  for (struct hak_run *before = next_root(index, tree + 1); before != NULL; before = before->left) run = before;
  return run;
}

struct hak_run *hak_run_index_last(const struct hak_run_index *index) {
  for (size_t word = sizeof index->some / sizeof *index->some; word-- != 0;) {
    const uint64_t some = index->some[word];
    if (some == 0) continue;
    struct hak_run *run = index->roots[word * 64 + 63u - (uint32_t)__builtin_clzll(some)];
    while (run->right != NULL) run = run->right;
    return run;
  }
  return NULL;
}
