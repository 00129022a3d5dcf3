// SPDX-License-Identifier: Apache-2.0
//
// For idle_cache_race_test: pauses within the protocol of idle_cache.h, and the real thief with these pauses.
#ifndef HAKMEM_HEAP_TEST_PAUSE_H_
#define HAKMEM_HEAP_TEST_PAUSE_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

void hak_test_spin(uint32_t times);
// Spins, yields or sleeps for a short time, at random; and the same once in 16 calls.
void hak_test_pause(void);
void hak_test_pause_seldom(void);

// hak_idle_cache_steal, compiled from the same source, with pauses around barriers and before each exchange.
uint32_t hak_test_slow_steal(struct hak_heap *heap, uint64_t now, uint64_t idle_ms);

// hak_test_slow_steal calls it within each of its barriers, so that a test can let the owner's delayed stores arrive
// there. NULL: nothing is called.
extern void (*hak_test_at_barrier)(void);

HAK_C_END

#endif  // HAKMEM_HEAP_TEST_PAUSE_H_
