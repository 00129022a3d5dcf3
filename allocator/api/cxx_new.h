// SPDX-License-Identifier: Apache-2.0
//
// What operator new shares between its C part and the one function that must be C++: the program's new handler.
#ifndef HAKMEM_API_CXX_NEW_H_
#define HAKMEM_API_CXX_NEW_H_

#include "allocator/hot/cold_entry.h"

HAK_C_BEGIN

typedef void (*hak_new_handler)(void);

// std::get_new_handler(), or NULL in a process without a C++ runtime.
hak_new_handler hak_get_new_handler(void);

// A block of `size` bytes at a multiple of `align`, a power of two; 1 asks for no more than every block has.
void *hak_new_try(size_t align, size_t size);

// The slow path of the nothrow forms: asks the handler for memory until there is some, or it gives up by throwing or
// by not being there; then NULL ([new.delete.single]).
void *hak_new_after_failure_nothrow(size_t align, size_t size);

HAK_C_END

#endif  // HAKMEM_API_CXX_NEW_H_
