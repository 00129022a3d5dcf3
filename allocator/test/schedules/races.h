// SPDX-License-Identifier: Apache-2.0
//
// The races that plant.py adds to copies of the allocator's sources, each behind a switch. One at most is on.
#ifndef HAKMEM_TEST_SCHEDULES_RACES_H_
#define HAKMEM_TEST_SCHEDULES_RACES_H_

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum hak_test_race {
  HAK_TEST_NO_RACE,
  HAK_TEST_TORN_PUSH,         // a chain is pushed by a store, whatever was pushed since it was read
  HAK_TEST_TORN_NOTICE,       // the same for the pending list
  HAK_TEST_TORN_DETACH,       // the owner takes a slab's chain in two steps, a load and a store
  HAK_TEST_TORN_DRAIN,        // the same for its pending list
  HAK_TEST_LOST_NOTICES,      // a heap that closes forgets the notices that came since its last drain
  HAK_TEST_ORPHAN_FREED,      // a free does not check under the lock that the slab is still an orphan
  HAK_TEST_EARLY_ORPHAN,      // a slab of an idle thread becomes an orphan before it is on the orphanage's lists
  HAK_TEST_TORN_EMPTY,        // a slot of the medium cache is emptied in two steps, a load and a store
  HAK_TEST_TORN_MOVE,         // a medium block moves to another slot, and leaves the old one only then
  HAK_TEST_LATE_TAG,          // a medium block gets the tag of cached ones after others may take it
  HAK_TEST_EARLY_DESTROY,     // a thread that ends frees the record of its medium cache while others may count it
  HAK_TEST_PUTS_NONE_BACK,    // a thief of an idle cache puts no block back
  HAK_TEST_STALE_TOP,         // it does not read the top again after it has taken blocks
  HAK_TEST_TORN_STEAL,        // it takes a block in two steps, a load and a store
  HAK_TEST_LATE_TAKE_OUT,     // a trim takes a run out of the free ones only after it has let others in
  HAK_TEST_FREE_IN_TRANSIT,   // it returns a run's memory while the run is still a free one
  HAK_TEST_LATE_CALL,         // a free returns the memory of a run that is a free one already
  HAK_TEST_LATE_LEAVE,        // a superslab leaves the pool's lists only after others were let in
  HAK_TEST_TAKEN_IN_TRANSIT,  // slabs stay free while their memory is returned
  HAK_TEST_FORGETS_EMPTY,     // a superslab that became empty while slabs were in transit is not queued
  HAK_TEST_SETTLES_AT_ONCE,   // a request does not wait for memory in transit
};

// Switched before the threads of a schedule start.
extern enum hak_test_race hak_test_planted;

static inline bool hak_test_race_is(enum hak_test_race race) { return hak_test_planted == race; }

#ifdef __cplusplus
}
#endif

#endif  // HAKMEM_TEST_SCHEDULES_RACES_H_
