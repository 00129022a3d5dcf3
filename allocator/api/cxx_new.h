// SPDX-License-Identifier: Apache-2.0
//
// The parts of operator new: the forms of C++ (cxx_override.c) and those that only compilers call (cxx_compiler_new.c),
// both in C, the few functions that must be C++ (cxx_new.cc), and what
// both need from the C++ runtime (cxx_new_runtime.c).
#ifndef HAKMEM_API_CXX_NEW_H_
#define HAKMEM_API_CXX_NEW_H_

#include "allocator/api/guarded_entry.h"
#include "allocator/hot/cold_entry.h"

HAK_C_BEGIN

typedef void (*hak_new_handler)(void);

// ---- cxx_override.c -----------------------------------------------------------------------------

// Whether the program has replaced a form from which others are made.
bool hak_new_replaced(void);

// The kind that guarded builds note for a block of operator new: `kind`; or that of malloc if the program has replaced
// any form. Its own forms and ours may then release each other's blocks, as C++ lets them or as has always worked.
enum hak_kind hak_new_kind(enum hak_kind kind);
// A block of the forms below, with that kind. Returns its argument in other builds.
HAK_INLINE void *hak_new_of_kind(void *block, enum hak_kind kind) {
  return HAK_GUARDED ? hak_guarded_set(block, hak_new_kind(kind)) : block;
}

// Calls the program's new handler until there is memory, or until the handler throws ([new.delete.single]). `caller` is
// an address in the code that called operator new: its C++ runtime throws.
void *hak_new_after_failure(size_t align, size_t size, const void *caller);

// The same for the nothrow forms: NULL when the handler gives up, throws, or there is none.
void *hak_new_after_failure_nothrow(size_t align, size_t size, const void *caller);

// ---- cxx_new.cc ---------------------------------------------------------------------------------

// Calls the new handler. False: it has thrown.
bool hak_new_handle_nothrow(hak_new_handler handler);

// Calls the program's own operator new; NULL when it throws.
void *hak_new_call_nothrow(void *(*function)(size_t size), size_t size);
void *hak_new_call_aligned_nothrow(void *(*function)(size_t size, size_t align), size_t size, size_t align);

// ---- cxx_new_runtime.c --------------------------------------------------------------------------

// Both use the C++ runtime of the code at `caller`, since plugins may have runtimes of their own.

// std::get_new_handler(), or NULL without a C++ runtime.
hak_new_handler hak_get_new_handler(const void *caller);

// Throws std::bad_alloc; ends the process without a C++ runtime.
__attribute__((noreturn)) void hak_throw_bad_alloc(const void *caller);

HAK_C_END

#endif  // HAKMEM_API_CXX_NEW_H_
