// SPDX-License-Identifier: Apache-2.0
//
// The rules by which watching begins and ends.
#include "allocator/policy/watch_policy.h"

#include "allocator/policy/ss_release_policy.h"

// A smaller change of the free bytes does not count.
#define CHANGE ((uint64_t)256 * 1024)
// The page purge must see a slab unchanged on two visits at least a deadline apart, and visits it every half deadline.
#define PATIENCE_DEADLINES 3u
#define PATIENCE_MS 1000u
// The most time between two decisions that counts: a process that made no calls, or did not run, returned nothing.
#define STEP_MS_LEAST 250u

// Moves the mark when the free bytes have changed. True: they have not changed for a long time.
static bool stands_still(struct hak_watch_state *state, const struct hak_watch_facts *facts) {
  const uint64_t free_bytes = facts->free_bytes;
  const uint64_t change =
      free_bytes > state->mark_bytes ? free_bytes - state->mark_bytes : state->mark_bytes - free_bytes;
  const uint64_t step = facts->now_ms > state->judged_ms ? facts->now_ms - state->judged_ms : 0;
  const uint64_t step_most = facts->deadline_ms / 2 + STEP_MS_LEAST;
  state->judged_ms = facts->now_ms;
  if (!state->on || change >= CHANGE) {
    state->mark_bytes = free_bytes;
    state->still_ms = 0;
    return false;
  }
  state->still_ms += step < step_most ? step : step_most;
  return state->still_ms >= PATIENCE_DEADLINES * facts->deadline_ms + PATIENCE_MS;
}

// Begins another episode, if one is allowed.
static bool begin_episode(struct hak_watch_state *state, uint64_t now) {
  const uint64_t paid = now > state->episodes_ms ? (now - state->episodes_ms) / HAK_WATCH_EPISODE_MS : 0;
  state->episodes -= paid < state->episodes ? paid : state->episodes;
  state->episodes_ms = state->episodes == 0 ? now : state->episodes_ms + paid * HAK_WATCH_EPISODE_MS;
  if (state->episodes == HAK_WATCH_EPISODES) return false;
  state->episodes++;
  return true;
}

bool hak_watch_judge(struct hak_watch_state *state, const struct hak_watch_facts *facts) {
  if (facts->free_bytes < state->stuck_bytes) state->stuck_bytes = facts->free_bytes;
  if (stands_still(state, facts)) state->stuck_bytes = facts->free_bytes;
  const bool worth = hak_should_watch(facts->free_bytes - state->stuck_bytes, facts->committed);
  const bool on = worth && (state->on || begin_episode(state, facts->now_ms));
  state->on = on;
  return on;
}

uint64_t hak_watch_used(uint64_t used, uint64_t calls, uint64_t elapsed_ms) {
  const uint64_t more = used + calls;
  if (elapsed_ms >= HAK_WATCH_CALLS / HAK_WATCH_CALLS_PER_MS) return calls;
  const uint64_t paid = elapsed_ms * HAK_WATCH_CALLS_PER_MS;
  return more > paid ? more - paid : 0;
}
