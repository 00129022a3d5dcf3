// SPDX-License-Identifier: Apache-2.0
//
// Counts allocations, and keeps the samples.
#include "allocator/prof/sampler.h"

#include "allocator/os/os.h"
#include "allocator/os/thread_number.h"
#include "allocator/prof/unwind.h"

struct hak_lock hak_prof_mutex = HAK_LOCK_INIT(HAK_RANK_PROF);

HAK_ATOMIC(hak_sampler_call *) hak_sampler_due;
HAK_ATOMIC(hak_sampler_look *) hak_sampler_on_sample;

void hak_sampler_lock(void) { hak_lock_acquire(&hak_prof_mutex); }
void hak_sampler_unlock(void) { hak_lock_release(&hak_prof_mutex); }

// If the lock was taken from a thread that does not exist here, it may have left the tables half changed.
static void mend(void) HAK_REQUIRES(hak_prof_mutex) {
  if (HAK_LIKELY(!hak_lock_was_orphaned(&hak_prof_mutex))) return;
  hak_live_samples_start_anew();
  hak_stack_table_start_anew();
}

static void lock(void) HAK_ACQUIRE(hak_prof_mutex) {
  hak_lock_acquire(&hak_prof_mutex);
  mend();
}

// For what a signal handler may call. The rank is not checked: the handler may have interrupted a thread that has noted
// the rank of a lock, and has not taken it yet.
static void lock_unranked(void) HAK_ACQUIRE(hak_prof_mutex) {
  hak_lock_acquire_unranked(&hak_prof_mutex);
  mend();
}
static void unlock_unranked(void) HAK_RELEASE(hak_prof_mutex) { hak_lock_release_unranked(&hak_prof_mutex); }

// ---- On and off ---------------------------------------------------------------------------------

HAK_ATOMIC(uint32_t) hak_sampler_reasons;

// True: it was not among them.
static bool add_reason(uint32_t reason) {
  // Relaxed: see the declaration.
  return (atomic_fetch_or_explicit(&hak_sampler_reasons, reason, memory_order_relaxed) & reason) == 0;
}
static void remove_reason(uint32_t reason) {
  atomic_fetch_and_explicit(&hak_sampler_reasons, ~reason, memory_order_relaxed);  // Relaxed: as above.
}

void hak_sampler_obey_setting(void) {
  if (HAK_SETTING(prof)) {
    add_reason(HAK_SAMPLER_BY_SETTING);
  } else {
    remove_reason(HAK_SAMPLER_BY_SETTING);
  }
}

// A thread that is late with what it saw is put right by the next look.
bool hak_sampler_trace(bool traced) {
  if (traced) return add_reason(HAK_SAMPLER_BY_TRACER);
  remove_reason(HAK_SAMPLER_BY_TRACER);
  return false;
}

// ---- Counting -----------------------------------------------------------------------------------

bool hak_sampler_count_slowly(struct hak_sample_state *state, uint64_t size) {
  const uint64_t bytes = hak_sample_bytes(size);
  const uint64_t mean = HAK_SETTING(prof_sample_bytes);
  if (state->random == 0) state->random = hak_os_random() | 1;
  // The distance to the next sample does not depend on how far it is from the last one, so it may be drawn anew at any
  // time.
  if (state->drawn_for != mean + 1) {
    state->left = hak_sample_distance(&state->random, mean);
    state->drawn_for = mean + 1;
  }
  if (state->left >= bytes) {
    state->left -= bytes;
    return false;
  }
  state->left = hak_sample_distance(&state->random, mean);
  return true;
}

// ---- Samples ------------------------------------------------------------------------------------

void hak_sampler_note(const struct hak_sample_state *state, void *block, uint64_t size, uint32_t class_id,
                      const void *caller) {
  void *frames[HAK_STACK_FRAMES_MAX];
  const uint32_t count = hak_unwind(frames, HAK_STACK_FRAMES_MAX, caller);
  const uint64_t now_us = hak_os_now_us();
  struct hak_live_sample sample = {.address = block,
                                   .size = size,
                                   .weight = hak_sample_weight(size, state->drawn_for - 1),
                                   .when_ns = now_us * 1000,
                                   .thread = hak_thread_number(),
                                   .class_id = class_id};
  struct hak_live_sample stale;
  lock();
  // Left over if the block was freed where nobody counted. The address is this block's now.
  const bool was_there = hak_live_sample_take(block, &stale);
  if (was_there) hak_stack_count_out(stale.stack, stale.weight, stale.size);
  sample.stack = hak_stack_number(frames, count);
  hak_stack_count_in(sample.stack, sample.weight, size);
  // Without room its free will not be seen: it counts as freed at once.
  const bool kept = hak_live_sample_put(&sample);
  if (!kept) hak_stack_count_out(sample.stack, sample.weight, size);
  const double live_bytes = hak_stack_live_bytes();
  hak_sampler_unlock();
  if (was_there) hak_probe_free(block);
  hak_probe_alloc(block, size, hak_sample_weighted_bytes(sample.weight, size));
  if (!kept) hak_probe_free(block);
  // Acquire: pairs with whoever sets it.
  hak_sampler_look *look = atomic_load_explicit(&hak_sampler_on_sample, memory_order_acquire);
  if (look != NULL) look(now_us, live_bytes);
}

bool hak_sampler_take_out(const void *block, struct hak_live_sample *out) {
  lock();
  const bool found = hak_live_sample_take(block, out);
  hak_sampler_unlock();
  return found;
}

// How long the block has lived. Never below 0: another thread may have read the clock for it a moment later.
static uint64_t age_us(const struct hak_live_sample *sample, uint64_t now_us) {
  const uint64_t since_us = sample->when_ns / 1000;
  return now_us > since_us ? now_us - since_us : 0;
}

void hak_sampler_count_out(const struct hak_live_sample *sample) {
  const uint64_t lived_us = age_us(sample, hak_os_now_us());
  lock();
  hak_stack_count_freed(sample->stack, sample->weight, sample->size, lived_us);
  // The block is gone already. If another sampled block has its address now, a tracer may have seen that one begin, and
  // must not take this for its end. Under the lock, so that no other block comes between the look and the probe.
  if (!hak_live_sample_is_there(sample->address)) hak_probe_free(sample->address);
  hak_sampler_unlock();
}

void hak_sampler_put_back(const struct hak_live_sample *sample) {
  lock();
  const bool kept = hak_live_sample_put(sample);
  if (!kept) hak_stack_count_out(sample->stack, sample->weight, sample->size);
  hak_sampler_unlock();
  if (!kept) hak_probe_free(sample->address);
}

bool hak_sampler_forget(const void *block) {
  struct hak_live_sample sample;
  lock();
  const bool found = hak_live_sample_take(block, &sample);
  // The clock is read only here: in OBSERVE and HARDENED most calls are for blocks that are not sampled.
  if (found) {
    hak_stack_count_freed(sample.stack, sample.weight, sample.size, age_us(&sample, hak_os_now_us()));
  }
  hak_sampler_unlock();
  if (found) hak_probe_free(block);
  return found;
}

HAK_COLD bool hak_sampler_find(const void *block, struct hak_live_sample *out) {
  lock();
  const bool found = hak_live_sample_find(block, out);
  hak_sampler_unlock();
  return found;
}

// ---- Visits -------------------------------------------------------------------------------------

uint32_t hak_sampler_read(uint32_t *slot, struct hak_live_sample *out, uint32_t room) {
  lock_unranked();
  const uint32_t copied = hak_live_sample_read(slot, out, room);
  unlock_unranked();
  return copied;
}

bool hak_sampler_stack(uint32_t number, void *const **frame, uint32_t *frames, struct hak_stack_totals *totals) {
  lock_unranked();
  const struct hak_stack_record *record = hak_stack_record(number);
  if (record != NULL) {
    *frame = record->frame;
    *frames = record->frames;
    *totals = hak_stack_totals_of(record);
  }
  unlock_unranked();
  return record != NULL;
}

HAK_COLD void hak_sampler_mark(void) {
  lock_unranked();
  hak_stack_mark();
  unlock_unranked();
}

// ---- Shares -------------------------------------------------------------------------------------

HAK_COLD void hak_sampler_begin_shares(void) {
  lock_unranked();
  hak_stack_begin_shares();
  unlock_unranked();
}

HAK_COLD void hak_sampler_add_shares(const struct hak_live_sample *samples, uint32_t count, const double *bytes) {
  lock_unranked();
  for (uint32_t i = 0; i < count; i++) {
    hak_stack_add_share(samples[i].stack, samples[i].weight * bytes[samples[i].class_id]);
  }
  unlock_unranked();
}
