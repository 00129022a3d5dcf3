// SPDX-License-Identifier: Apache-2.0
//
// The only C++ of the allocator: operator new and a new handler may throw, and the nothrow forms must catch it.
#include "allocator/api/cxx_new.h"

// Exception handling reaches the C++ runtime through cxx_new_runtime.c, which looks it up when it is needed. Weak:
// clang leaves the name in the symbol table although nothing refers to it.
__asm__(
    ".weak __gxx_personality_v0\n"
    ".hidden hak_cxx_personality\n"
    ".hidden hak_cxx_begin_catch\n"
    ".hidden hak_cxx_end_catch\n"
    ".hidden hak_cxx_resume\n"
    ".set __gxx_personality_v0, hak_cxx_personality\n"
    ".set __cxa_begin_catch, hak_cxx_begin_catch\n"
    ".set __cxa_end_catch, hak_cxx_end_catch\n"
    ".set _Unwind_Resume, hak_cxx_resume\n");

bool hak_new_handle_nothrow(hak_new_handler handler) {
  try {
    handler();
    return true;
  } catch (...) {
    return false;
  }
}

void *hak_new_call_nothrow(void *(*function)(size_t size), size_t size) {
  try {
    return function(size);
  } catch (...) {
    return nullptr;
  }
}

void *hak_new_call_aligned_nothrow(void *(*function)(size_t size, size_t align), size_t size, size_t align) {
  try {
    return function(size, align);
  } catch (...) {
    return nullptr;
  }
}
