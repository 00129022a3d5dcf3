// SPDX-License-Identifier: Apache-2.0
//
// The stacks of samples, each stored once, with what was allocated and freed there. A stack is never removed, and a
// record never moves, so its frames can be read without the lock. The number of stacks is bounded: what is allocated at
// further ones counts for stack 0, which has no frames.
#ifndef HAKMEM_PROF_STACK_TABLE_H_
#define HAKMEM_PROF_STACK_TABLE_H_

#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/prof/prof_lock.h"

HAK_C_BEGIN

#define HAK_STACK_FRAMES_MAX 128u
#define HAK_STACKS_MAX 65536u

// What samples stand for.
struct hak_stack_totals {
  double alloc_objects;
  double alloc_bytes;
  double inuse_objects;
  double inuse_bytes;
  // What inuse_* were when the inuse_bytes of all stacks together were the most since the table was empty.
  double peak_objects;
  double peak_bytes;
  // Of freed blocks whose free was seen, and the sum of how long each lived.
  double lived_objects;
  double lived_bytes;
  double lived_us;
  // What inuse_* were at the latest mark; before any: 0.
  double marked_objects;
  double marked_bytes;
  // The share of the stack's live blocks in what lies free in slabs, by the latest round of shares.
  double fragmentation_bytes;
};

struct hak_stack_record {
  uint64_t hash;
  uint32_t next;       // in its bucket, counted from 1
  uint32_t frames;     // not changed after the record was made, as the frames
  uint64_t samples;    // of live blocks
  uint64_t kept_for;   // the number of the peak of which totals.peak_* are
  uint64_t marked_in;  // the number of the mark of which totals.marked_* are
  uint64_t shared_in;  // the number of the round of which totals.fragmentation_bytes is
  struct hak_stack_totals totals;
  void *frame[];
};

// The number of the stack. 0: the table is full, or there is no memory.
uint32_t hak_stack_number(void *const *frames, uint32_t count) HAK_REQUIRES(hak_prof_mutex);
// Its record. NULL: there is no stack of that number.
struct hak_stack_record *hak_stack_record(uint32_t number) HAK_REQUIRES(hak_prof_mutex);

// Counts a sampled block that is allocated, and one that is freed. `weight` is how many blocks it stands for.
void hak_stack_count_in(uint32_t number, double weight, uint64_t size) HAK_REQUIRES(hak_prof_mutex);
void hak_stack_count_out(uint32_t number, double weight, uint64_t size) HAK_REQUIRES(hak_prof_mutex);
// The same for a block of which is known how long it lived.
void hak_stack_count_freed(uint32_t number, double weight, uint64_t size, uint64_t lived_us)
    HAK_REQUIRES(hak_prof_mutex);

// What the live blocks of all stacks hold, as the samples estimate it.
double hak_stack_live_bytes(void) HAK_REQUIRES(hak_prof_mutex);

// Marks this moment: totals.marked_* of all stacks become what inuse_* are now.
void hak_stack_mark(void) HAK_REQUIRES(hak_prof_mutex);

// Begins a round of shares: each stack has none. Then adds to a stack's share.
void hak_stack_begin_shares(void) HAK_REQUIRES(hak_prof_mutex);
void hak_stack_add_share(uint32_t number, double bytes) HAK_REQUIRES(hak_prof_mutex);

// The totals of a stack.
struct hak_stack_totals hak_stack_totals_of(const struct hak_stack_record *record) HAK_REQUIRES(hak_prof_mutex);

// Forgets all stacks, whose records may be half changed.
void hak_stack_table_start_anew(void) HAK_REQUIRES(hak_prof_mutex);

HAK_C_END

#endif  // HAKMEM_PROF_STACK_TABLE_H_
