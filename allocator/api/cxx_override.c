// SPDX-License-Identifier: Apache-2.0
//
// C++ allocation functions (C++17 [new.delete], with the sized nothrow forms that some compilers call): operator new
// and delete in 22 forms, under the names of the Itanium C++ ABI. Written in C so that the library needs no C++
// runtime; the two functions of that runtime that are needed, and exist in every program that calls operator new, are
// weak references.
#include <hakmem/hakmem.h>
#include <stdlib.h>

#include "allocator/api/cxx_new.h"
#include "allocator/api/entry.h"
#include "allocator/api/sized.h"
#include "allocator/os/report.h"

struct nothrow;  // std::nothrow_t

// std::__throw_bad_alloc(). With HAK_NEW_MUST_THROW the linker has to find it.
#ifndef HAK_NEW_MUST_THROW
__attribute__((weak))
#endif
__attribute__((noreturn)) void
_ZSt17__throw_bad_allocv(void);

__attribute__((weak)) hak_new_handler _ZSt15get_new_handlerv(void);  // std::get_new_handler()

hak_new_handler hak_get_new_handler(void) { return _ZSt15get_new_handlerv != NULL ? _ZSt15get_new_handlerv() : NULL; }

HAK_INLINE void *try_new(size_t align, size_t size) { return hak_entry_aligned(align, size); }

void *hak_new_try(size_t align, size_t size) { return try_new(align, size); }

// Asks the program's handler for memory until there is some or the handler gives up; [new.delete.single].
HAK_COLD static void *new_after_failure(size_t align, size_t size) {
  for (;;) {
    const hak_new_handler handler = hak_get_new_handler();
    if (handler == NULL) {
#ifndef HAK_NEW_MUST_THROW
      if (_ZSt17__throw_bad_allocv == NULL)
        hak_fatal("out of memory in operator new, and no C++ runtime to throw", NULL);
#endif
      _ZSt17__throw_bad_allocv();
    }
    handler();
    void *block = try_new(align, size);
    if (block != NULL) return block;
  }
}

HAK_INLINE void *new_or_throw(size_t align, size_t size) {
  void *block = try_new(align, size);
  return HAK_LIKELY(block != NULL) ? block : new_after_failure(align, size);
}
HAK_INLINE void *new_or_null(size_t align, size_t size) {
  void *block = try_new(align, size);
  return HAK_LIKELY(block != NULL) ? block : hak_new_after_failure_nothrow(align, size);
}

// ---- new: n single, a array; St11align_val_t: aligned; RKSt9nothrow_t: nothrow ------------------

HAK_EXPORT void *_Znwm(size_t size);
HAK_EXPORT void *_Znwm(size_t size) { return new_or_throw(1, size); }
HAK_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
HAK_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag) {
  (void)tag;
  return new_or_null(1, size);
}
HAK_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align);
HAK_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align) { return new_or_throw(align, size); }
HAK_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
HAK_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag) {
  (void)tag;
  return new_or_null(align, size);
}
HAK_EXPORT void *_Znam(size_t size);
HAK_EXPORT void *_Znam(size_t size) { return new_or_throw(1, size); }
HAK_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
HAK_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag) {
  (void)tag;
  return new_or_null(1, size);
}
HAK_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align);
HAK_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align) { return new_or_throw(align, size); }
HAK_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
HAK_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag) {
  (void)tag;
  return new_or_null(align, size);
}

// ---- delete: l single, a array; m: with the size ------------------------------------------------

HAK_EXPORT void _ZdlPv(void *ptr);
HAK_EXPORT void _ZdlPv(void *ptr) { hak_entry_free(ptr); }
HAK_EXPORT void _ZdlPvm(void *ptr, size_t size);
HAK_EXPORT void _ZdlPvm(void *ptr, size_t size) { hak_entry_free_sized(ptr, size); }
HAK_EXPORT void _ZdlPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag);
HAK_EXPORT void _ZdlPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag) {
  (void)tag;
  hak_entry_free(ptr);
}
HAK_EXPORT void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag);
HAK_EXPORT void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag) {
  (void)tag;
  hak_entry_free_sized(ptr, size);
}
HAK_EXPORT void _ZdlPvSt11align_val_t(void *ptr, size_t align);
HAK_EXPORT void _ZdlPvSt11align_val_t(void *ptr, size_t align) {
  (void)align;
  hak_entry_free(ptr);
}
HAK_EXPORT void _ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align);
HAK_EXPORT void _ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align) {
  hak_entry_free_aligned_sized(ptr, align, size);
}
HAK_EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag);
HAK_EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag) {
  (void)align;
  (void)tag;
  hak_entry_free(ptr);
}
HAK_EXPORT void _ZdaPv(void *ptr);
HAK_EXPORT void _ZdaPv(void *ptr) { hak_entry_free(ptr); }
HAK_EXPORT void _ZdaPvm(void *ptr, size_t size);
HAK_EXPORT void _ZdaPvm(void *ptr, size_t size) { hak_entry_free_sized(ptr, size); }
HAK_EXPORT void _ZdaPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag);
HAK_EXPORT void _ZdaPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag) {
  (void)tag;
  hak_entry_free(ptr);
}
HAK_EXPORT void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag);
HAK_EXPORT void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag) {
  (void)tag;
  hak_entry_free_sized(ptr, size);
}
HAK_EXPORT void _ZdaPvSt11align_val_t(void *ptr, size_t align);
HAK_EXPORT void _ZdaPvSt11align_val_t(void *ptr, size_t align) {
  (void)align;
  hak_entry_free(ptr);
}
HAK_EXPORT void _ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align);
HAK_EXPORT void _ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align) {
  hak_entry_free_aligned_sized(ptr, align, size);
}
HAK_EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag);
HAK_EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag) {
  (void)align;
  (void)tag;
  hak_entry_free(ptr);
}
