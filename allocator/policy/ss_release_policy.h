// SPDX-License-Identifier: Apache-2.0
//
// Release policy: what to do with free memory. Pure decisions on facts that the caller passes, including the time, so
// that tests need neither sleep nor memory.
#ifndef HAKMEM_POLICY_RELEASE_POLICY_H_
#define HAKMEM_POLICY_RELEASE_POLICY_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/decommit.h"

HAK_C_BEGIN

struct hak_release_facts {
  uint64_t now_ms;
  uint64_t free_since_ms;     // when the memory became idle
  uint64_t deadline_ms;       // how long idle memory is kept
  uint64_t empty_superslabs;  // wholly free superslabs, including this one
  uint64_t keep_superslabs;   // how many of them may stay mapped
  uint64_t free_bytes;        // of all free slabs that may be resident
  uint64_t keep_free_bytes;   // how many of these may stay
  bool wholly_free;           // the superslab has no slab in use
};

enum hak_release_verdict {
  HAK_RELEASE_KEEP,      // change nothing
  HAK_RELEASE_DECOMMIT,  // return the pages of free slabs, keep the addresses
  HAK_RELEASE_UNMAP,     // unmap the whole superslab
};

// What to do with the free memory of one superslab.
enum hak_release_verdict hak_release_superslab(const struct hak_release_facts *facts);

// How the memory of a slab or run is returned as soon as it is free; HAK_DECOMMIT_OFF: it is not. LEAN decides by its
// mode and target. Beyond the soft limit it is returned so that the kernel takes it at once, but a 32nd of the limit
// may stay: a program whose live memory is beyond the limit would otherwise make a system call at each free.
struct hak_eager_facts {
  enum hak_decommit_mode mode;
  uint64_t committed;        // bytes now
  uint64_t target;           // committed bytes up to which LEAN returns nothing eagerly
  uint64_t soft_limit;       // HAKMEM_SOFT_LIMIT_MB in bytes; 0: none
  uint64_t free_bytes;       // of all free slabs, or runs, that may be resident
  uint64_t keep_free_bytes;  // how many of these may stay
};
enum hak_decommit_mode hak_eager_mode(const struct hak_eager_facts *facts);

// Whether a heap with `free_bytes` in slabs in use, out of `heap_bytes`, empties its caches before it takes fresh
// memory: a slab that only cached blocks keep in use may then serve the request.
bool hak_should_empty_before_growth(uint64_t free_bytes, uint64_t heap_bytes);

// How many microseconds one call may spend on release, if the previous such call was `elapsed_ms` ago: a tenth of that
// time, so that a busy program is never delayed and a quiet one needs few calls; at most 20 ms.
uint64_t hak_release_slice_us(uint64_t elapsed_ms);

// Whether the program has freed so much of its heap that its calls are worth watching (policy/watch_policy.h). `free`
// bytes are in slabs of heaps, in the pool or in freed mappings, out of `committed` bytes.
bool hak_should_watch(uint64_t free, uint64_t committed);

// Whether a heap has so much free memory in slabs in use that their free pages are worth returning.
bool hak_should_purge_pages(uint64_t free_bytes, uint64_t heap_bytes);

// Whether an idle thread's heap, with `free_bytes` in slabs in use out of `heap_bytes`, is worth more to other threads
// than to its own.
bool hak_should_share_slabs(uint64_t free_bytes, uint64_t heap_bytes);

// Whether a heap keeps a wholly free slab although `other_slabs_with_room` more of the class can give blocks. It keeps
// only the last such slab, so that a program whose use goes back and forth across a slab boundary does not take and
// return a slab each time.
bool hak_should_keep_slab(uint32_t other_slabs_with_room);

HAK_C_END

#endif  // HAKMEM_POLICY_RELEASE_POLICY_H_
