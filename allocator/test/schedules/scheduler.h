// SPDX-License-Identifier: Apache-2.0
//
// A deterministic scheduler: runs threads one at a time, and decides at each point (points.h) which one goes on. The
// same plan gives the same run.
//
// The plans are those of "probabilistic concurrency testing" (Burckhardt, Kothari, Musuvathi, Nagarakatte 2010):
// threads have random priorities, the highest that can run does, and at `changes` random points the running thread
// becomes the lowest. A race that needs d ordered steps to show is found with a probability of at least 1 / (threads *
// steps^(d-1)) by each plan with d-1 changes. That bound holds for sequentially consistent memory: what only weaker
// memory shows, this does not find.
#ifndef HAKMEM_TEST_SCHEDULES_SCHEDULER_H_
#define HAKMEM_TEST_SCHEDULES_SCHEDULER_H_

#include <stdint.h>

#include <functional>
#include <string>
#include <vector>

#include "allocator/test/schedules/races.h"

namespace hak_schedules {

struct Plan {
  uint64_t seed;
  uint32_t changes;  // at most this often, besides where a thread waits or ends
  uint64_t steps;    // about how many points there are
};

struct Result {
  uint64_t steps;   // points that were passed
  uint64_t digest;  // of which thread ran when
};

// Runs each body in a thread of its own until all have returned. Fails if all wait for each other, or if a million
// points do not suffice.
Result Run(const Plan &plan, const std::vector<std::function<void()>> &bodies);

// For bodies and what checks them: ends the exploration.
[[noreturn]] void Fail(const char *what);

// Called with the name of each system call before it is made, in sources that include calls.h; NULL: nobody wants it.
extern void (*on_call)(const char *name);

struct Search {
  uint64_t seed;                               // of all plans
  uint32_t schedules;                          // at most
  uint32_t most_changes;                       // each plan has 0 to this many
  enum hak_test_race race = HAK_TEST_NO_RACE;  // which is on; its reports are not shown
  uint32_t seconds = 10;                       // of processor time for one schedule; a longer one does not end
};

struct Found {
  bool failed;         // Fail was called, a schedule did not end, or the process ended by a signal, as by an abort
  uint32_t schedules;  // how many were run; the last one failed, if one did
  uint64_t longest;    // points
  uint64_t digest;     // of all schedules
};

// Runs `schedule` in a child process for one plan after the other, until one fails. It makes a new state, runs it by
// Run, checks it, and returns the result.
Found Explore(const Search &search, const std::function<Result(const Plan &plan)> &schedule);

}  // namespace hak_schedules

#endif  // HAKMEM_TEST_SCHEDULES_SCHEDULER_H_
