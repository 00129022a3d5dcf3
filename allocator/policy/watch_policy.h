// SPDX-License-Identifier: Apache-2.0
//
// Watch policy: from when to when the calls of all threads take the slow path, because much free memory waits for its
// deadline and a thread that hits its cache would never come by. A watched call costs some nanoseconds, so:
//   - an episode begins only when much is free (hak_release_watch), and there are only so many episodes a second: a
//     program that lets go of its heap and takes it again, many times a second, makes slow calls anyway;
//   - it ends when the memory has gone back, or when for some deadlines nothing did: what is left then cannot go back
//     (pages with blocks in use) and counts no more;
//   - a thread has a budget of watched calls.
//
// Pure decisions: the time and the figures come from the caller, who also sees to it that one at a time asks.
#ifndef HAKMEM_POLICY_WATCH_POLICY_H_
#define HAKMEM_POLICY_WATCH_POLICY_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Episodes that may begin in a row, and the milliseconds that allow one more.
#define HAK_WATCH_EPISODES 16u
#define HAK_WATCH_EPISODE_MS 500u

struct hak_watch_facts {
  uint64_t now_ms;
  uint64_t free_bytes;  // that have memory
  uint64_t committed;
  uint64_t deadline_ms;  // how long free memory is kept
};

// All zero at the start.
struct hak_watch_state {
  bool on;
  uint64_t stuck_bytes;  // free bytes that did not go back though there was time
  uint64_t mark_bytes;   // what was free when it last changed much
  uint64_t mark_ms;      // and when
  uint64_t episodes;     // that have begun, less those that time has paid for
  uint64_t episodes_ms;  // when that was last reckoned
};
// Whether threads are to be watched from now on.
bool hak_watch_judge(struct hak_watch_state *state, const struct hak_watch_facts *facts);

// Watched calls that a thread may make before its fast paths are switched on again, and how many more for each
// millisecond: at full speed a few seconds at first, later a small part of its calls.
#define HAK_WATCH_CALLS ((uint64_t)1 << 28)
#define HAK_WATCH_CALLS_PER_MS 8192u
// How many of them it has used after `calls` more and `elapsed_ms`.
uint64_t hak_watch_used(uint64_t used, uint64_t calls, uint64_t elapsed_ms);

HAK_C_END

#endif  // HAKMEM_POLICY_WATCH_POLICY_H_
