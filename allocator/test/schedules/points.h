// SPDX-License-Identifier: Apache-2.0
//
// Included before all else in sources that run under the scheduler of scheduler.h (-include): before each atomic
// operation, whoever makes it, the scheduler may let another thread run; and what waits for another thread asks the
// scheduler. The sources are compiled once more for this and do not know of it.
#ifndef HAKMEM_TEST_SCHEDULES_POINTS_H_
#define HAKMEM_TEST_SCHEDULES_POINTS_H_

#include "allocator/test/schedules/races.h"

#ifdef __cplusplus
// Before an atomic operation.
extern "C" void hak_test_point(void);
#else
// Declares the functions that are replaced.
#include "allocator/os/barrier.h"
#include "allocator/os/futex.h"
#include "allocator/os/os.h"
void hak_test_point(void);
void hak_test_futex_wait(HAK_ATOMIC(uint32_t) * word, uint32_t value, uint64_t ms);
void hak_test_futex_wake(HAK_ATOMIC(uint32_t) * word, int count);
bool hak_test_barrier(void);
uint64_t hak_test_now_ms(void);
#define hak_futex_wait hak_test_futex_wait
#define hak_futex_wake hak_test_futex_wake
#define hak_os_barrier hak_test_barrier
#define hak_os_now_ms hak_test_now_ms
#endif

// The compilers' names, to which <stdatomic.h> and <atomic> expand.
#define __atomic_load(...) (hak_test_point(), __atomic_load(__VA_ARGS__))
#define __atomic_load_n(...) (hak_test_point(), __atomic_load_n(__VA_ARGS__))
#define __atomic_store(...) (hak_test_point(), __atomic_store(__VA_ARGS__))
#define __atomic_store_n(...) (hak_test_point(), __atomic_store_n(__VA_ARGS__))
#define __atomic_exchange(...) (hak_test_point(), __atomic_exchange(__VA_ARGS__))
#define __atomic_exchange_n(...) (hak_test_point(), __atomic_exchange_n(__VA_ARGS__))
#define __atomic_compare_exchange(...) (hak_test_point(), __atomic_compare_exchange(__VA_ARGS__))
#define __atomic_compare_exchange_n(...) (hak_test_point(), __atomic_compare_exchange_n(__VA_ARGS__))
#define __atomic_fetch_add(...) (hak_test_point(), __atomic_fetch_add(__VA_ARGS__))
#define __atomic_fetch_sub(...) (hak_test_point(), __atomic_fetch_sub(__VA_ARGS__))
#define __atomic_fetch_or(...) (hak_test_point(), __atomic_fetch_or(__VA_ARGS__))
#define __atomic_fetch_and(...) (hak_test_point(), __atomic_fetch_and(__VA_ARGS__))
#define __c11_atomic_load(...) (hak_test_point(), __c11_atomic_load(__VA_ARGS__))
#define __c11_atomic_store(...) (hak_test_point(), __c11_atomic_store(__VA_ARGS__))
#define __c11_atomic_exchange(...) (hak_test_point(), __c11_atomic_exchange(__VA_ARGS__))
#define __c11_atomic_compare_exchange_strong(...) (hak_test_point(), __c11_atomic_compare_exchange_strong(__VA_ARGS__))
#define __c11_atomic_compare_exchange_weak(...) (hak_test_point(), __c11_atomic_compare_exchange_weak(__VA_ARGS__))
#define __c11_atomic_fetch_add(...) (hak_test_point(), __c11_atomic_fetch_add(__VA_ARGS__))
#define __c11_atomic_fetch_sub(...) (hak_test_point(), __c11_atomic_fetch_sub(__VA_ARGS__))
#define __c11_atomic_fetch_or(...) (hak_test_point(), __c11_atomic_fetch_or(__VA_ARGS__))
#define __c11_atomic_fetch_and(...) (hak_test_point(), __c11_atomic_fetch_and(__VA_ARGS__))

#endif  // HAKMEM_TEST_SCHEDULES_POINTS_H_
