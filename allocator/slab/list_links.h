// SPDX-License-Identifier: Apache-2.0
//
// Checks the links of the doubly linked lists of slabs and superslabs before they are used. Where records are in a
// superslab's head, a linear overflow out of the superslab before it reaches them. A list that trusted an overwritten
// link would write a value of the attacker's choice to an address of the attacker's choice. So a neighbour must lie
// where records can lie and must point back, and a record without a predecessor must be the first of its list;
// otherwise the process ends. All checks are on slow paths and read cache lines that the caller touches anyway.
#ifndef HAKMEM_SLAB_LIST_LINKS_H_
#define HAKMEM_SLAB_LIST_LINKS_H_

#include "allocator/os/report.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_map.h"

HAK_C_BEGIN

#define HAK_LINKS_OF_SLABS "corrupted list of slabs"
#define HAK_LINKS_OF_SUPERSLABS "corrupted list of superslabs"
#define HAK_LINKS_OF_QUEUE "corrupted purge queue"

// Whether a superslab's records, or a slab's descriptor, can begin at the address. In HARDENED they can begin at any
// address.
HAK_INLINE bool hak_links_superslab(const struct hak_superslab *ss) {
  return HAK_HARDENED || ((uintptr_t)ss & ((HAK_SUPERSLAB_SIZE - 1) | ~(uintptr_t)(HAK_ADDRESS_SPACE - 1))) == 0;
}
HAK_INLINE bool hak_links_slab(const struct hak_slab *slab) {
  if (HAK_HARDENED) return true;
  const uintptr_t offset = ((uintptr_t)slab & (HAK_SUPERSLAB_SIZE - 1)) - offsetof(struct hak_superslab, slabs);
  return (uintptr_t)slab < HAK_ADDRESS_SPACE && offset % sizeof(struct hak_slab) == 0 &&
         offset / sizeof(struct hak_slab) < HAK_SLABS_PER_SUPERSLAB;
}

// ---- Lists of slabs -----------------------------------------------------------------------------

// The next slab of the list; it must point back. NULL: there is none.
HAK_INLINE struct hak_slab *hak_slab_next(const struct hak_slab *slab) {
  struct hak_slab *const next = slab->next;
  if (next != NULL && HAK_UNLIKELY(!hak_links_slab(next) || next->prev != slab)) hak_fatal(HAK_LINKS_OF_SLABS, slab);
  return next;
}
// The list's first slab.
HAK_INLINE struct hak_slab *hak_slab_first(struct hak_slab *head) {
  if (head != NULL && HAK_UNLIKELY(head->prev != NULL)) hak_fatal(HAK_LINKS_OF_SLABS, head);
  return head;
}
// Checks that the slab is on the list that begins at `head`, as far as its neighbours show.
HAK_INLINE void hak_slab_require_linked(const struct hak_slab *slab, const struct hak_slab *head) {
  const struct hak_slab *const prev = slab->prev;
  if (HAK_UNLIKELY(prev == NULL ? head != slab : !hak_links_slab(prev) || prev->next != slab)) {
    hak_fatal(HAK_LINKS_OF_SLABS, slab);
  }
  hak_slab_next(slab);
}

// ---- Lists of superslabs ------------------------------------------------------------------------

HAK_INLINE struct hak_superslab *hak_superslab_next(const struct hak_superslab *ss) {
  struct hak_superslab *const next = ss->next;
  if (next != NULL && HAK_UNLIKELY(!hak_links_superslab(next) || next->prev != ss)) {
    hak_fatal(HAK_LINKS_OF_SUPERSLABS, ss);
  }
  return next;
}
HAK_INLINE struct hak_superslab *hak_superslab_first(struct hak_superslab *head) {
  if (head != NULL && HAK_UNLIKELY(head->prev != NULL)) hak_fatal(HAK_LINKS_OF_SUPERSLABS, head);
  return head;
}
HAK_INLINE void hak_superslab_require_linked(const struct hak_superslab *ss, const struct hak_superslab *head) {
  const struct hak_superslab *const prev = ss->prev;
  if (HAK_UNLIKELY(prev == NULL ? head != ss : !hak_links_superslab(prev) || prev->next != ss)) {
    hak_fatal(HAK_LINKS_OF_SUPERSLABS, ss);
  }
  hak_superslab_next(ss);
}

// ---- The purge queue of superslabs --------------------------------------------------------------

HAK_INLINE struct hak_superslab *hak_superslab_queue_next(const struct hak_superslab *ss) {
  struct hak_superslab *const next = ss->purge_next;
  if (next != NULL && HAK_UNLIKELY(!hak_links_superslab(next) || next->purge_prev != ss)) {
    hak_fatal(HAK_LINKS_OF_QUEUE, ss);
  }
  return next;
}
// Checks that the superslab is on the queue from `first` to `last`, as far as its neighbours show.
HAK_INLINE void hak_superslab_require_queued(const struct hak_superslab *ss, const struct hak_superslab *first,
                                             const struct hak_superslab *last) {
  const struct hak_superslab *const prev = ss->purge_prev;
  if (HAK_UNLIKELY((prev == NULL ? first != ss : !hak_links_superslab(prev) || prev->purge_next != ss) ||
                   (ss->purge_next == NULL && last != ss))) {
    hak_fatal(HAK_LINKS_OF_QUEUE, ss);
  }
  hak_superslab_queue_next(ss);
}

HAK_C_END

#endif  // HAKMEM_SLAB_LIST_LINKS_H_
