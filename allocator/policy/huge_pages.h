// SPDX-License-Identifier: Apache-2.0
//
// Huge pages for superslabs: whether a new superslab gets huge pages. A pure decision on facts that the caller passes.
//
// A huge page saves 511 page faults, but its first touch takes 2 MiB. So HAKMEM_THP=auto keeps small heaps on small
// pages, and in a larger heap the slabs that may stay nearly empty: the first one of each class in each thread's heap.
#ifndef HAKMEM_POLICY_HUGE_PAGES_H_
#define HAKMEM_POLICY_HUGE_PAGES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

// Committed memory up to which a process stays on small pages.
#define HAK_HUGE_FROM ((uint64_t)4 * 1024 * 1024)

// A thread's heap below the first size stays on small pages. A heap of the second size fills a slab of any class soon,
// so its first slabs get huge pages too.
#define HAK_HUGE_LEAST_HEAP ((uint64_t)2560 * 1024)
#define HAK_HUGE_LARGE_HEAP ((uint64_t)16 * 1024 * 1024)

struct hak_huge_facts {
  enum hak_huge_pages wanted;  // HAKMEM_THP
  bool available;              // the system gives huge pages of a superslab's size on request
  bool further;                // the slab is not the first of its class in its heap, or the heap is large
  bool eager;                  // free memory is returned at once: LEAN, or a deadline of 0
  uint64_t committed;          // bytes now
};

// The facts as the settings, the system and the account of memory have them now. Not pure: it reads them.
struct hak_huge_facts hak_huge_facts_now(bool further);

bool hak_should_use_huge(const struct hak_huge_facts *facts);

// Whether one call populates the pages of a batch of new blocks before they are handed out. Useful where no huge pages
// are available and each page costs a fault.
bool hak_should_populate(const struct hak_huge_facts *facts);

HAK_C_END

#endif  // HAKMEM_POLICY_HUGE_PAGES_H_
