// SPDX-License-Identifier: Apache-2.0
//
// The sampler: counts the bytes that each thread allocates, says which blocks are sampled (sample_distance.h), and
// keeps for each of these its stack, size and weight until it is freed. The callers (api/sampled.h) see to it that
// every allocation is counted while HAKMEM_PROF is on, and that the frees of sampled blocks come here.
//
// Thread-safe; the lock is held for a moment only, and never while other code runs.
#ifndef HAKMEM_PROF_SAMPLER_H_
#define HAKMEM_PROF_SAMPLER_H_

#include "allocator/heap/sample_state.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock_annotations.h"
#include "allocator/policy/config.h"
#include "allocator/prof/live_samples.h"
#include "allocator/prof/probes.h"
#include "allocator/prof/prof_lock.h"
#include "allocator/prof/sample_distance.h"
#include "allocator/prof/stack_table.h"

HAK_C_BEGIN

// What the next counted allocation of any thread calls once, while that thread holds no lock: for a signal handler that
// must not wait for the sampler's lock itself. NULL: nothing. Release when set, acquire when taken.
typedef void hak_sampler_call(void);
extern HAK_ATOMIC(hak_sampler_call *) hak_sampler_due;

// What is called after each sampled allocation with the time (hak_os_now_us) and what is live. It must not take a lock
// or call the sampler. NULL: nothing. Release when set, acquire when read.
typedef void hak_sampler_look(uint64_t now_us, double live_bytes);
extern HAK_ATOMIC(hak_sampler_look *) hak_sampler_on_sample;

// Why allocations are counted: a sum of these. Relaxed: a change takes effect with a thread's next calls.
#define HAK_SAMPLER_BY_SETTING 1u  // HAKMEM_PROF
#define HAK_SAMPLER_BY_TRACER 2u   // a tracer is attached to a probe (probes.h)
extern HAK_ATOMIC(uint32_t) hak_sampler_reasons;
HAK_INLINE uint32_t hak_sampler_reasons_now(void) {
  return atomic_load_explicit(&hak_sampler_reasons, memory_order_relaxed);  // Relaxed: as above.
}
// Whether allocations are counted.
HAK_INLINE bool hak_sampler_is_on(void) { return HAK_PROF && hak_sampler_reasons_now() != 0; }

// Call it after HAKMEM_PROF was set.
void hak_sampler_obey_setting(void);

// The slow part of hak_sampler_follow_tracer.
HAK_COLD bool hak_sampler_trace(bool traced);
// Looks whether a tracer has come or gone, and counts allocations for as long as one is there. True: one has come.
HAK_INLINE bool hak_sampler_follow_tracer(void) {
  if (!HAK_PROF) return false;
  const bool traced = hak_probes_are_traced();
  if (HAK_LIKELY(traced == ((hak_sampler_reasons_now() & HAK_SAMPLER_BY_TRACER) != 0))) return false;
  return hak_sampler_trace(traced);
}

// Whether there are live samples. Relaxed: whoever frees a block has seen its allocation.
HAK_INLINE bool hak_sampler_has_live(void) {
  return HAK_PROF && atomic_load_explicit(&hak_live_samples, memory_order_relaxed) != 0;
}

// Whether all calls of all threads must come to the slow paths (api/sampled.h).
HAK_INLINE bool hak_sampler_wants_calls(void) { return hak_sampler_is_on() || (HAK_GUARDED && hak_sampler_has_live()); }

// The slow part of hak_sampler_count.
HAK_COLD bool hak_sampler_count_slowly(struct hak_sample_state *state, uint64_t size);

// Counts a block of `size` bytes that the state's thread is about to allocate. True: it is sampled.
HAK_INLINE bool hak_sampler_count(struct hak_sample_state *state, uint64_t size) {
  const uint64_t bytes = hak_sample_bytes(size);
  if (HAK_LIKELY(state->left >= bytes && state->drawn_for == HAK_SETTING(prof_sample_bytes) + 1)) {
    state->left -= bytes;
    return false;
  }
  return hak_sampler_count_slowly(state, size);
}

// Notes a block for which hak_sampler_count said true. `caller`: the return address with which its stack begins.
// `class_id`: as in struct hak_live_sample. All of these functions pass the probes (probes.h) too.
void hak_sampler_note(const struct hak_sample_state *state, void *block, uint64_t size, uint32_t class_id,
                      const void *caller);
// Forgets the block before it is freed. False: it is not sampled.
bool hak_sampler_forget(const void *block);

// The same in two steps, for a block whose free may fail: takes it out, then counts it as freed or puts it back.
bool hak_sampler_take_out(const void *block, struct hak_live_sample *out);
void hak_sampler_count_out(const struct hak_live_sample *sample);
void hak_sampler_put_back(const struct hak_live_sample *sample);

// Copies the sample of a block. False: it is not sampled.
bool hak_sampler_find(const void *block, struct hak_live_sample *out);

// For visits: hak_live_sample_read, and a copy of a stack's totals. *frame and *frames stay valid. False: there is no
// stack of that number. Both may be called in a signal handler, unless it interrupted a thread that holds a lock
// (hak_lock_is_within).
uint32_t hak_sampler_read(uint32_t *slot, struct hak_live_sample *out, uint32_t room);
bool hak_sampler_stack(uint32_t number, void *const **frame, uint32_t *frames, struct hak_stack_totals *totals);

// hak_stack_mark. In signal handlers as above.
void hak_sampler_mark(void);

// Gives each stack its share in what lies free in slabs: begins a round, then counts for the stack of each sample
// bytes[class_id] for each block that it stands for. In signal handlers as above; by one thread at a time.
void hak_sampler_begin_shares(void);
void hak_sampler_add_shares(const struct hak_live_sample *samples, uint32_t count, const double *bytes);

// For fork.
void hak_sampler_lock(void) HAK_ACQUIRE(hak_prof_mutex);
void hak_sampler_unlock(void) HAK_RELEASE(hak_prof_mutex);

HAK_C_END

#endif  // HAKMEM_PROF_SAMPLER_H_
