// SPDX-License-Identifier: Apache-2.0
//
// The index of free runs by size, then address: a tree (run_tree.h) for each of some ranges of sizes, and a bitmap of
// the trees that are not empty. Exact, as the trees are: if any run is large enough, the smallest one is found, and of
// several the lowest. Most trees have few runs, so most calls take a few instructions.
#ifndef HAKMEM_PAGES_RUN_INDEX_H_
#define HAKMEM_PAGES_RUN_INDEX_H_

#include "allocator/pages/page_map.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// Up to 16 pages each size has a tree; then there are eight trees for each doubling.
#define HAK_RUN_STEPS_SHIFT 3u
#define HAK_RUN_STEPS (1u << HAK_RUN_STEPS_SHIFT)
#define HAK_RUN_TREES ((size_t)(HAK_PAGE_MAP_BITS - HAK_PAGE_SHIFT - HAK_RUN_STEPS_SHIFT + 1) * HAK_RUN_STEPS)

// All zero: no run.
struct hak_run_index {
  struct hak_run *roots[HAK_RUN_TREES];
  // Bit i: roots[i] is not NULL.
  uint64_t some[(HAK_RUN_TREES + 63) / 64];
};

// Puts a run into the index, or takes it out. The run's size, a multiple of HAK_PAGE_SIZE and not 0, and its start must
// not change in between.
void hak_run_index_insert(struct hak_run_index *index, struct hak_run *run);
void hak_run_index_remove(struct hak_run_index *index, struct hak_run *run);
// The first run in the order of the index that has more than `size` bytes, or has exactly `size` bytes and begins at
// `start` or above; NULL: there is none.
struct hak_run *hak_run_index_find(const struct hak_run_index *index, size_t size, const char *start);
// The last run in the order of the index; NULL: there is none.
struct hak_run *hak_run_index_last(const struct hak_run_index *index);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_INDEX_H_
