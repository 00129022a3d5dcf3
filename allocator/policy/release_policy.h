// SPDX-License-Identifier: Apache-2.0
//
// Release policy: what is done with memory that is free. Pure decisions on figures that the caller brings, the time
// included, so that tests need neither sleep nor memory.
#ifndef HAKMEM_POLICY_RELEASE_POLICY_H_
#define HAKMEM_POLICY_RELEASE_POLICY_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_release_facts {
  uint64_t now_ms;
  uint64_t free_since_ms;     // when the memory fell idle
  uint64_t deadline_ms;       // how long idle memory is kept
  uint64_t empty_superslabs;  // wholly free superslabs, this one included
  uint64_t keep_superslabs;   // how many of them may stay mapped
  bool wholly_free;           // the superslab has no slab in use
};

enum hak_release_verdict {
  HAK_RELEASE_KEEP,      // as it is
  HAK_RELEASE_DECOMMIT,  // give the pages of free slabs back, keep the addresses
  HAK_RELEASE_UNMAP,     // give the whole superslab back
};

// What to do with the free memory of one superslab.
enum hak_release_verdict hak_release_superslab(const struct hak_release_facts *facts);

// Whether a heap keeps a wholly free slab although `other_slabs_with_room` more of the class can give blocks. It is
// kept only where it is the last such slab, so that a program going back and forth over a slab's edge does not pay for
// each turn.
bool hak_release_keep_slab(uint32_t other_slabs_with_room);

HAK_C_END

#endif  // HAKMEM_POLICY_RELEASE_POLICY_H_
