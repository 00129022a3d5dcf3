// SPDX-License-Identifier: Apache-2.0
//
// The calling thread's cache. It takes a few words of initial-exec TLS, which fit into the static TLS space that is
// left for a library loaded by dlopen.
#ifndef HAKMEM_HOT_THREAD_H_
#define HAKMEM_HOT_THREAD_H_

#include "allocator/heap/heap.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

// &hak_no_cache before the thread's first slow call and after its end. A cache without blocks and without room sends
// every call to the slow path, so the fast path needs no check.
extern _Thread_local struct hak_cache *hak_thread_cache __attribute__((tls_model("initial-exec")));

// The same for the forms of operator new and delete that C++ defines in terms of other forms. It equals
// hak_thread_cache, except in a program that has replaced one of those other forms: there it is &hak_no_cache, and each
// call takes the slow path, which calls the program's form (api/cxx_override.c). In all other programs this costs
// nothing.
extern _Thread_local struct hak_cache *hak_new_cache __attribute__((tls_model("initial-exec")));

HAK_C_END

#endif  // HAKMEM_HOT_THREAD_H_
