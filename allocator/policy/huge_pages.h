// SPDX-License-Identifier: Apache-2.0
//
// Huge pages for superslabs: whether a new one is to be in huge pages. A pure decision on figures that the caller
// brings.
//
// A huge page saves 511 page faults, and takes 2 MiB at the first touch. So HAKMEM_THP=auto leaves small heaps on small
// pages, and of a larger one the slabs that may stay nearly empty: the first one of each class in each thread's heap.
#ifndef HAKMEM_POLICY_HUGE_PAGES_H_
#define HAKMEM_POLICY_HUGE_PAGES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// Committed memory up to which a process stays on small pages.
#define HAK_HUGE_FROM ((uint64_t)4 * 1024 * 1024)

// A thread's heap that stays on small pages, and one that fills a slab of any class before long: its first slabs are in
// huge pages too.
#define HAK_HUGE_LEAST_HEAP ((uint64_t)2560 * 1024)
#define HAK_HUGE_LARGE_HEAP ((uint64_t)16 * 1024 * 1024)

struct hak_huge_facts {
  enum hak_huge_pages wanted;  // HAKMEM_THP
  bool available;              // the system gives huge pages of a superslab's size to who asks
  bool further;                // the slab is not its class's first one in its heap, or the heap is large
  bool eager;                  // free memory goes back at once: LEAN, or a deadline of 0
  uint64_t committed;          // bytes now
};

bool hak_huge_wanted(const struct hak_huge_facts *facts);

// Whether the pages of a batch of new blocks are filled by one call, before they are handed out: where there are no
// huge pages to be had, and a page costs a fault each.
bool hak_huge_populate_instead(const struct hak_huge_facts *facts);

HAK_C_END

#endif  // HAKMEM_POLICY_HUGE_PAGES_H_
