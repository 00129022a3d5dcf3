// SPDX-License-Identifier: Apache-2.0
//
// The only C++ of the allocator: a new handler may throw, and the nothrow forms of operator new must catch it.
#include "allocator/api/cxx_new.h"

// The C++ runtime is not linked in for this: it is there in every process that gets here, and in others its names stay
// unresolved.
__asm__(
    ".weak __gxx_personality_v0\n"
    ".weak __cxa_begin_catch\n"
    ".weak __cxa_end_catch\n"
    ".weak _Unwind_Resume\n");

void *hak_new_after_failure_nothrow(size_t align, size_t size) {
  try {
    for (;;) {
      const hak_new_handler handler = hak_get_new_handler();
      if (handler == nullptr) return nullptr;
      handler();
      void *block = hak_new_try(align, size);
      if (block != nullptr) return block;
    }
  } catch (...) {
    return nullptr;
  }
}
