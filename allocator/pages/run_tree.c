// SPDX-License-Identifier: Apache-2.0
//
// The treap of free runs, without recursion and without parent pointers.
#include "allocator/pages/run_tree.h"

static bool comes_before(const struct hak_run *run, size_t size, const char *start) {
  return run->size != size ? run->size < size : run->start < start;
}

// Only unpredictable priorities, from a secret, would resist a hostile order of requests. For a tree that is balanced
// well enough, it suffices that priorities are independent of size and address. xorshift32 (Marsaglia 2003); under the
// lock, as the tree.
static uint32_t draw_priority(void) {
  static uint32_t state = 2463534242u;
  state ^= state << 13;
  state ^= state >> 17;
  return state ^= state << 5;
}

void hak_run_tree_insert(struct hak_run **root, struct hak_run *run) {
  run->priority = draw_priority();
  struct hak_run **link = root;
  while (*link != NULL && (*link)->priority >= run->priority) {
    link = comes_before(*link, run->size, run->start) ? &(*link)->right : &(*link)->left;
  }
  // Splits the subtree that was here by the run's key into the run's two subtrees.
  struct hak_run *rest = *link;
  struct hak_run **less = &run->left;
  struct hak_run **more = &run->right;
  while (rest != NULL) {
    if (comes_before(rest, run->size, run->start)) {
      *less = rest;
      less = &rest->right;
      rest = rest->right;
    } else {
      *more = rest;
      more = &rest->left;
      rest = rest->left;
    }
  }
  *less = NULL;
  *more = NULL;
  *link = run;
}

void hak_run_tree_remove(struct hak_run **root, struct hak_run *run) {
  struct hak_run **link = root;
  while (*link != run) link = comes_before(*link, run->size, run->start) ? &(*link)->right : &(*link)->left;
  struct hak_run *less = run->left;
  struct hak_run *more = run->right;
  while (less != NULL && more != NULL) {
    if (less->priority >= more->priority) {
      *link = less;
      link = &less->right;
      less = less->right;
    } else {
      *link = more;
      link = &more->left;
      more = more->left;
    }
  }
  *link = less != NULL ? less : more;
}

struct hak_run *hak_run_tree_find(struct hak_run *root, size_t size, const char *start) {
  struct hak_run *best = NULL;
  while (root != NULL) {
    if (comes_before(root, size, start)) {
      root = root->right;
    } else {
      best = root;
      root = root->left;
    }
  }
  return best;
}
