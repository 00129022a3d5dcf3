// SPDX-License-Identifier: Apache-2.0
//
// The index of free runs: a treap (Seidel and Aragon 1996) in the order of size, then address. Exact: if any run is
// large enough, the smallest one is found, and of several the lowest. Expected time O(log n).
#ifndef HAKMEM_PAGES_RUN_TREE_H_
#define HAKMEM_PAGES_RUN_TREE_H_

#include "allocator/pages/run.h"

HAK_C_BEGIN

// Puts a run into the tree with this root, or takes it out. The run's size and start must not change in between.
void hak_run_tree_insert(struct hak_run **root, struct hak_run *run);
void hak_run_tree_remove(struct hak_run **root, struct hak_run *run);
// The first run in the tree's order that has more than `size` bytes, or has exactly `size` bytes and begins at `start`
// or above; NULL: there is none.
struct hak_run *hak_run_tree_find(struct hak_run *root, size_t size, const char *start);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_TREE_H_
