// SPDX-License-Identifier: Apache-2.0
//
// The parts of operator new: the part in C (cxx_override.c), the few functions that must be C++ (cxx_new.cc), and what
// both need from the C++ runtime (cxx_new_runtime.c).
#ifndef HAKMEM_API_CXX_NEW_H_
#define HAKMEM_API_CXX_NEW_H_

#include "allocator/hot/cold_entry.h"

HAK_C_BEGIN

typedef void (*hak_new_handler)(void);

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
