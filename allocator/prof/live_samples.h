// SPDX-License-Identifier: Apache-2.0
//
// The sampled blocks that are live, found by their address or visited in the order of their slots. The number is
// bounded; a block for which there is no room is not in the table, and is not counted when it is freed.
#ifndef HAKMEM_PROF_LIVE_SAMPLES_H_
#define HAKMEM_PROF_LIVE_SAMPLES_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/prof/prof_lock.h"

HAK_C_BEGIN

#define HAK_LIVE_SAMPLES_MAX ((uint32_t)4 * 1024 * 1024)

struct hak_live_sample {
  void *address;  // NULL in the table: the slot is free
  uint64_t size;  // as requested
  double weight;  // how many blocks it stands for
  uint64_t when_ns;
  uint32_t stack;     // its number in the table of stacks
  uint32_t thread;    // the kernel's number of the thread that allocated it
  uint32_t class_id;  // of the slab that the block lies in, or would lie in if it were not sampled; or HAK_CLASS_NONE
  uint32_t next;      // in its bucket, or the next free slot; counted from 1. Only the table's
};

// How many there are. Relaxed: whoever frees a block has seen its allocation.
extern HAK_ATOMIC(uint32_t) hak_live_samples;

// False: there is no room. There must be none with this address.
bool hak_live_sample_put(const struct hak_live_sample *sample) HAK_REQUIRES(hak_prof_mutex);
// Removes it. False: there is none with this address.
bool hak_live_sample_take(const void *address, struct hak_live_sample *out) HAK_REQUIRES(hak_prof_mutex);
bool hak_live_sample_is_there(const void *address) HAK_REQUIRES(hak_prof_mutex);
// Copies it. False: there is none with this address.
bool hak_live_sample_find(const void *address, struct hak_live_sample *out) HAK_REQUIRES(hak_prof_mutex);
// Copies up to `room` samples from slot *slot on, and moves *slot behind the last one. Returns how many; 0: there are
// no more.
uint32_t hak_live_sample_read(uint32_t *slot, struct hak_live_sample *out, uint32_t room) HAK_REQUIRES(hak_prof_mutex);

// Forgets all samples, whose records may be half changed.
void hak_live_samples_start_anew(void) HAK_REQUIRES(hak_prof_mutex);

HAK_C_END

#endif  // HAKMEM_PROF_LIVE_SAMPLES_H_
