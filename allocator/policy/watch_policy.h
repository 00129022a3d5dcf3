// SPDX-License-Identifier: Apache-2.0
//
// Watch policy: when the calls of all threads take the slow path. They do while much free memory waits for its
// deadline, because a thread whose calls all hit its cache would never return it. A watched call costs some
// nanoseconds, so:
//   - an episode begins only when much memory is free (hak_should_watch), and the number of episodes per second is
//     limited: a program that frees and reallocates its heap many times a second makes slow calls anyway;
//   - it ends when the memory has been returned, or when nothing was returned for some deadlines in which the program
//     made calls: the rest cannot be returned (pages with blocks in use) and no longer counts;
//   - a thread has a budget of watched calls.
//
// Pure decisions: the caller passes the time and the facts, and makes sure that one thread at a time asks.
#ifndef HAKMEM_POLICY_WATCH_POLICY_H_
#define HAKMEM_POLICY_WATCH_POLICY_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// How many episodes may begin in a row, and the milliseconds after which one more may.
#define HAK_WATCH_EPISODES 16u
#define HAK_WATCH_EPISODE_MS 500u

struct hak_watch_facts {
  uint64_t now_ms;
  uint64_t free_bytes;  // that may be resident
  uint64_t committed;
  uint64_t deadline_ms;  // how long free memory is kept
};

// All zero at the start.
struct hak_watch_state {
  bool on;
  uint64_t stuck_bytes;  // free bytes that were not returned although there was time
  uint64_t mark_bytes;   // free bytes at their last large change
  uint64_t still_ms;     // time since then in which the program made calls
  uint64_t judged_ms;    // the time of the last decision
  uint64_t episodes;     // episodes that have begun, less those that elapsed time allows again
  uint64_t episodes_ms;  // when `episodes` was last updated
};
// Whether threads must be watched from now on.
bool hak_watch_judge(struct hak_watch_state *state, const struct hak_watch_facts *facts);

// How many watched calls a thread may make before its fast paths are switched on again, and how many more each
// millisecond allows: at full speed some seconds at first, which must be more than the deadline, later a small part of
// its calls. Fast processors make 300 million calls a second.
#define HAK_WATCH_CALLS ((uint64_t)1 << 30)
#define HAK_WATCH_CALLS_PER_MS 8192u
// How many of them the thread has used after `calls` more calls and `elapsed_ms`.
uint64_t hak_watch_used(uint64_t used, uint64_t calls, uint64_t elapsed_ms);

// What the watch (api/watch.h) keeps for each thread.
struct hak_watch_clock {
  bool on;           // memory is due. Otherwise the calls are watched because allocations are sampled, or not at all
  uint32_t skip;     // calls until the next reading of the clock
  uint32_t step;     // what it was set to
  uint64_t used;     // of the budget of watched calls
  uint64_t last_ms;  // the last reading
  uint64_t work_ms;  // the last slice of work
  uint64_t full_ms;  // the last flush of the cache, or the beginning of the watch
  uint64_t held_ms;  // the same for the quarantine
};

HAK_C_END

#endif  // HAKMEM_POLICY_WATCH_POLICY_H_
