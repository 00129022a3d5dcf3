// SPDX-License-Identifier: Apache-2.0
//
// The parts of operator new: the part in C (cxx_override.c), the few functions that must be C++ (cxx_new.cc), and what
// both need from the C++ runtime (cxx_new_runtime.c).
#ifndef HAKMEM_API_CXX_NEW_H_
#define HAKMEM_API_CXX_NEW_H_

#include "allocator/hot/cold_entry.h"

HAK_C_BEGIN

// Returns a block of `size` bytes at a multiple of `align`, a power of two; 1 requests the alignment of every block.
void *hak_new_try(size_t align, size_t size);

// ---- cxx_new.cc ---------------------------------------------------------------------------------

// The slow path of the nothrow forms: calls the new handler until there is memory. NULL when the handler throws or
// there is none ([new.delete.single]).
void *hak_new_after_failure_nothrow(size_t align, size_t size);

// Calls the program's own operator new; NULL when it throws.
void *hak_new_call_nothrow(void *(*function)(size_t size), size_t size);
void *hak_new_call_aligned_nothrow(void *(*function)(size_t size, size_t align), size_t size, size_t align);

// ---- cxx_new_runtime.c --------------------------------------------------------------------------

typedef void (*hak_new_handler)(void);

// std::get_new_handler(), or NULL in a process without a C++ runtime.
hak_new_handler hak_get_new_handler(void);

// Throws std::bad_alloc; ends a process without a C++ runtime.
__attribute__((noreturn)) void hak_throw_bad_alloc(void);

HAK_C_END

#endif  // HAKMEM_API_CXX_NEW_H_
