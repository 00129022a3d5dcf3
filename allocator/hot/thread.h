// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's cache. A few words of initial-exec TLS: small enough for the static TLS space that is left for a
// library loaded by dlopen.
#ifndef HAKMEM_HOT_THREAD_H_
#define HAKMEM_HOT_THREAD_H_

#include "allocator/os/base.h"
#include "allocator/tiny/heap.h"

HAK_C_BEGIN

// &hak_no_cache before the thread's first slow call and after its end: a cache without blocks and without room sends
// every call down the slow path, so that the fast path need not ask.
extern _Thread_local struct hak_cache *hak_thread_cache __attribute__((tls_model("initial-exec")));

// The same for those forms of operator new and delete that C++ defines by other forms. It is either what
// hak_thread_cache is, or &hak_no_cache: so it stays in a program that has replaced one of the others, and each call
// takes the slow path, which asks the program's (api/cxx_override.c). In all other programs that costs them nothing.
extern _Thread_local struct hak_cache *hak_new_cache __attribute__((tls_model("initial-exec")));

HAK_C_END

#endif  // HAKMEM_HOT_THREAD_H_
