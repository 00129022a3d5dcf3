// SPDX-License-Identifier: Apache-2.0
//
// C11 atomics, in headers that C++ tests include too: HAK_ATOMIC(T) is _Atomic(T) in C and std::atomic<T> in C++, which
// have the same layout in gcc and clang. The generic functions have the same names in both languages.
#ifndef HAKMEM_OS_ATOMIC_H_
#define HAKMEM_OS_ATOMIC_H_

#ifdef __cplusplus
#include <atomic>
#define HAK_ATOMIC(T) std::atomic<T>
#define HAK_ALIGNAS(n) alignas(n)
using std::atomic_compare_exchange_strong_explicit;
using std::atomic_exchange_explicit;
using std::atomic_load_explicit;
using std::atomic_store_explicit;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;
#else
#include <stdatomic.h>
#define HAK_ATOMIC(T) _Atomic(T)
#define HAK_ALIGNAS(n) _Alignas(n)
#endif

#endif  // HAKMEM_OS_ATOMIC_H_
