// SPDX-License-Identifier: Apache-2.0
//
// Release policy: what is done with memory that is free. Pure decisions on figures that the caller brings, the time
// included, so that tests need neither sleep nor memory.
#ifndef HAKMEM_POLICY_RELEASE_POLICY_H_
#define HAKMEM_POLICY_RELEASE_POLICY_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"

HAK_C_BEGIN

struct hak_release_facts {
  uint64_t now_ms;
  uint64_t free_since_ms;     // when the memory fell idle
  uint64_t deadline_ms;       // how long idle memory is kept
  uint64_t empty_superslabs;  // wholly free superslabs, this one included
  uint64_t keep_superslabs;   // how many of them may stay mapped
  uint64_t free_bytes;        // of all free slabs that have memory
  uint64_t keep_free_bytes;   // how much of it may stay
  bool wholly_free;           // the superslab has no slab in use
};

enum hak_release_verdict {
  HAK_RELEASE_KEEP,      // as it is
  HAK_RELEASE_DECOMMIT,  // give the pages of free slabs back, keep the addresses
  HAK_RELEASE_UNMAP,     // give the whole superslab back
};

// What to do with the free memory of one superslab.
enum hak_release_verdict hak_release_superslab(const struct hak_release_facts *facts);

// Whether LEAN gives the memory of a slab back the moment it falls free.
struct hak_lean_facts {
  enum hak_decommit_mode mode;
  uint64_t committed;        // bytes now
  uint64_t target;           // committed bytes up to which nothing is given back eagerly
  uint64_t free_bytes;       // of all free slabs that have memory
  uint64_t keep_free_bytes;  // how much of it may stay
};
bool hak_release_eagerly(const struct hak_lean_facts *facts);

// Whether a heap with `free_bytes` in slabs in use, out of `heap_bytes`, empties its caches before it takes new memory:
// slabs that only cached blocks keep in use may serve.
bool hak_release_before_growth(uint64_t free_bytes, uint64_t heap_bytes);

// How long one call may spend on release when the last one that did was `elapsed_ms` ago: a tenth of that, so that a
// busy program is never held up and a quiet one is done with few calls; at most 20 ms. In microseconds.
uint64_t hak_release_slice_us(uint64_t elapsed_ms);

// Whether the program has let go of so much of its heap that it is worth watching (policy/watch_policy.h). `free` bytes
// are in slabs of heaps, in the pool or in freed mappings, out of `committed` ones.
bool hak_release_watch(uint64_t free, uint64_t committed);

// Whether a heap has so much free memory in slabs that are in use that their free pages are worth giving back.
bool hak_release_pages(uint64_t free_bytes, uint64_t heap_bytes);

// Whether a heap keeps a wholly free slab although `other_slabs_with_room` more of the class can give blocks. It is
// kept only where it is the last such slab, so that a program going back and forth over a slab's edge does not pay for
// each turn.
bool hak_release_keep_slab(uint32_t other_slabs_with_room);

HAK_C_END

#endif  // HAKMEM_POLICY_RELEASE_POLICY_H_
