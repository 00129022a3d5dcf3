// SPDX-License-Identifier: Apache-2.0
//
// C++ allocation functions (C++17 [new.delete], with the sized nothrow forms that some compilers call): operator new
// and delete in 22 forms, under the names of the Itanium C++ ABI. Written in C so that the library needs no C++
// runtime.
//
// A program may replace any of them. C++ defines most forms by another one: new[] by new, a nothrow form by the form
// that throws, a delete with a size by the delete without. So if the program has replaced the other form, ours calls it
// by its symbol. All are weak, so that the definitions of a program linked with the archive take precedence.
//
// Under a sanitizer with operators of its own there is none of them: libc_override.c.
#include <hakmem/hakmem.h>

#include "allocator/api/cxx_new.h"
#include "allocator/api/entry.h"
#include "allocator/api/sized.h"
#include "allocator/os/atomic.h"

#if !HAK_SANITIZED || defined(HAK_RENAMED)

struct nothrow;  // std::nothrow_t

#define FORM HAK_EXPORT __attribute__((weak))

// How the names are built: nw new, na new[], dl delete, da delete[]; m: with the size; St11align_val_t: aligned;
// RKSt9nothrow_t: nothrow.
FORM void *_Znwm(size_t size);
FORM void *_Znam(size_t size);
FORM void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
FORM void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
FORM void *_ZnwmSt11align_val_t(size_t size, size_t align);
FORM void *_ZnamSt11align_val_t(size_t size, size_t align);
FORM void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
FORM void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
FORM void _ZdlPv(void *ptr);
FORM void _ZdaPv(void *ptr);
FORM void _ZdlPvm(void *ptr, size_t size);
FORM void _ZdaPvm(void *ptr, size_t size);
FORM void _ZdlPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag);
FORM void _ZdaPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag);
FORM void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag);
FORM void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag);
FORM void _ZdlPvSt11align_val_t(void *ptr, size_t align);
FORM void _ZdaPvSt11align_val_t(void *ptr, size_t align);
FORM void _ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align);
FORM void _ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align);
FORM void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag);
FORM void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag);

// ---- The forms that define others ---------------------------------------------------------------

HAK_INLINE void *try_new(size_t align, size_t size, enum hak_kind kind) {
  return HAK_GUARDED ? hak_guarded_new(align, size, hak_new_kind(kind)) : hak_entry_aligned(align, size);
}

// Where the form that the program called returns to: in the object whose C++ runtime is to throw.
#define CALLER __builtin_return_address(0)

HAK_COLD void *hak_new_after_failure(size_t align, size_t size, const void *caller) {
  for (;;) {
    const hak_new_handler handler = hak_get_new_handler(caller);
    if (handler == NULL) hak_throw_bad_alloc(caller);
    handler();
    void *block = hak_entry_aligned(align, size);
    if (block != NULL) return block;
  }
}

HAK_COLD void *hak_new_after_failure_nothrow(size_t align, size_t size, const void *caller) {
  for (;;) {
    const hak_new_handler handler = hak_get_new_handler(caller);
    if (handler == NULL || !hak_new_handle_nothrow(handler)) return NULL;
    void *block = hak_entry_aligned(align, size);
    if (block != NULL) return block;
  }
}

// Bodies of functions, and not functions with a parameter `caller`: compilers would find the caller before they know
// that the request failed.
#define NEW_OR_THROW(align, size, kind, caller) \
  void *block = try_new(align, size, kind);     \
  return HAK_LIKELY(block != NULL) ? block : hak_new_of_kind(hak_new_after_failure(align, size, caller), kind);
#define NEW_OR_NULL(align, size, kind, caller) \
  void *block = try_new(align, size, kind);    \
  return HAK_LIKELY(block != NULL) ? block : hak_new_of_kind(hak_new_after_failure_nothrow(align, size, caller), kind);

// These forms under names that nobody can replace: _Znwm is `single_new` unless the program has its own.
static void *single_new(size_t size);
static void *array_new(size_t size);
static void *aligned_new(size_t size, size_t align);
static void *aligned_array_new(size_t size, size_t align);
static void single_delete(void *ptr);
static void array_delete(void *ptr);
static void aligned_delete(void *ptr, size_t align);
static void aligned_array_delete(void *ptr, size_t align);

void *_Znwm(size_t size) __attribute__((alias("single_new")));
void *_Znam(size_t size) __attribute__((alias("array_new")));
void *_ZnwmSt11align_val_t(size_t size, size_t align) __attribute__((alias("aligned_new")));
void *_ZnamSt11align_val_t(size_t size, size_t align) __attribute__((alias("aligned_array_new")));
void _ZdlPv(void *ptr) __attribute__((alias("single_delete")));
void _ZdaPv(void *ptr) __attribute__((alias("array_delete")));
void _ZdlPvSt11align_val_t(void *ptr, size_t align) __attribute__((alias("aligned_delete")));
void _ZdaPvSt11align_val_t(void *ptr, size_t align) __attribute__((alias("aligned_array_delete")));

// The other forms, under such names for the guarded builds alone.
#if HAK_GUARDED
// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared
#define TEXT(form) #form  // of the form's own name where a build renames it
#define OTHER(name, form) static __typeof__(form) name __attribute__((alias(TEXT(form))))
// NOLINTEND(bugprone-macro-parentheses)
OTHER(nothrow_new, _ZnwmRKSt9nothrow_t);
OTHER(nothrow_array_new, _ZnamRKSt9nothrow_t);
OTHER(aligned_nothrow_new, _ZnwmSt11align_val_tRKSt9nothrow_t);
OTHER(aligned_nothrow_array_new, _ZnamSt11align_val_tRKSt9nothrow_t);
OTHER(sized_single_delete, _ZdlPvm);
OTHER(sized_array_delete, _ZdaPvm);
OTHER(nothrow_delete, _ZdlPvRKSt9nothrow_t);
OTHER(nothrow_array_delete, _ZdaPvRKSt9nothrow_t);
OTHER(sized_nothrow_delete, _ZdlPvmRKSt9nothrow_t);
OTHER(sized_nothrow_array_delete, _ZdaPvmRKSt9nothrow_t);
OTHER(sized_aligned_delete, _ZdlPvmSt11align_val_t);
OTHER(sized_aligned_array_delete, _ZdaPvmSt11align_val_t);
OTHER(aligned_nothrow_delete, _ZdlPvSt11align_val_tRKSt9nothrow_t);
OTHER(aligned_nothrow_array_delete, _ZdaPvSt11align_val_tRKSt9nothrow_t);

// Whether the program has replaced one of these.
HAK_COLD static bool look_for_other_replaced(void) {
  return _ZnwmRKSt9nothrow_t != nothrow_new || _ZnamRKSt9nothrow_t != nothrow_array_new ||
         _ZnwmSt11align_val_tRKSt9nothrow_t != aligned_nothrow_new ||
         _ZnamSt11align_val_tRKSt9nothrow_t != aligned_nothrow_array_new || _ZdlPvm != sized_single_delete ||
         _ZdaPvm != sized_array_delete || _ZdlPvRKSt9nothrow_t != nothrow_delete ||
         _ZdaPvRKSt9nothrow_t != nothrow_array_delete || _ZdlPvmRKSt9nothrow_t != sized_nothrow_delete ||
         _ZdaPvmRKSt9nothrow_t != sized_nothrow_array_delete || _ZdlPvmSt11align_val_t != sized_aligned_delete ||
         _ZdaPvmSt11align_val_t != sized_aligned_array_delete ||
         _ZdlPvSt11align_val_tRKSt9nothrow_t != aligned_nothrow_delete ||
         _ZdaPvSt11align_val_tRKSt9nothrow_t != aligned_nothrow_array_delete;
}
#endif

// Whether the program has replaced one of the forms that define others.
HAK_COLD static bool look_for_replaced(void) {
  return _Znwm != single_new || _Znam != array_new || _ZnwmSt11align_val_t != aligned_new ||
         _ZnamSt11align_val_t != aligned_array_new || _ZdlPv != single_delete || _ZdaPv != array_delete ||
         _ZdlPvSt11align_val_t != aligned_delete || _ZdaPvSt11align_val_t != aligned_array_delete;
}

enum { NOT_KNOWN, REPLACED, OURS };

// For the slow path of the forms that are defined by others. If the program replaced nothing, their fast path is open
// from now on. (Guarded builds have only the slow path.)
HAK_NOINLINE bool hak_new_replaced(void) {
  static HAK_ATOMIC(int) known;  // Relaxed: every thread finds the same answer.
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (HAK_UNLIKELY(answer == NOT_KNOWN)) {
    answer = look_for_replaced() ? REPLACED : OURS;
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  if (answer == OURS) hak_new_cache = hak_thread_cache;
  return answer == REPLACED;
}

#if HAK_GUARDED
// Whether all forms are ours.
static bool all_are_ours(void) {
  static HAK_ATOMIC(int) known;  // Relaxed: every thread finds the same answer.
  int answer = atomic_load_explicit(&known, memory_order_relaxed);
  if (HAK_UNLIKELY(answer == NOT_KNOWN)) {
    answer = look_for_replaced() || look_for_other_replaced() ? REPLACED : OURS;
    atomic_store_explicit(&known, answer, memory_order_relaxed);
  }
  return answer == OURS;
}
enum hak_kind hak_new_kind(enum hak_kind kind) { return all_are_ours() ? kind : HAK_KIND_MALLOC; }
static enum hak_release release_by(enum hak_release by) { return all_are_ours() ? by : HAK_BY_ANY; }
#else
#define release_by(by) (by)
#endif

// The fast path of these forms. NULL or false: take the slow path.
HAK_INLINE void *quick_new(size_t size) { return HAK_GUARDED ? NULL : hak_hot_take(&hak_new_cache, size); }
HAK_INLINE bool quick_delete(void *ptr) { return !HAK_GUARDED && hak_hot_give(&hak_new_cache, ptr); }

// ---- new ----------------------------------------------------------------------------------------

static void *single_new(size_t size){NEW_OR_THROW(1, size, HAK_KIND_NEW, CALLER)}

HAK_COLD static void *slow_array_new(size_t size, const void *caller) {
  if (hak_new_replaced()) return _Znwm(size);
  NEW_OR_THROW(1, size, HAK_KIND_NEW_ARRAY, caller)
}
static void *array_new(size_t size) {
  void *block = quick_new(size);
  return HAK_LIKELY(block != NULL) ? block : slow_array_new(size, CALLER);
}

HAK_COLD static void *slow_nothrow_new(size_t size, bool array, const void *caller) {
  if (hak_new_replaced()) return hak_new_call_nothrow(array ? _Znam : _Znwm, size);
  NEW_OR_NULL(1, size, array ? HAK_KIND_NEW_ARRAY : HAK_KIND_NEW, caller)
}
void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag) {
  (void)tag;
  void *block = quick_new(size);
  return HAK_LIKELY(block != NULL) ? block : slow_nothrow_new(size, false, CALLER);
}
void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag) {
  (void)tag;
  void *block = quick_new(size);
  return HAK_LIKELY(block != NULL) ? block : slow_nothrow_new(size, true, CALLER);
}

static void *aligned_new(size_t size, size_t align) { NEW_OR_THROW(align, size, HAK_KIND_ALIGNED_NEW, CALLER) }
static void *aligned_array_new(size_t size, size_t align) {
  if (hak_new_replaced()) return _ZnwmSt11align_val_t(size, align);
  NEW_OR_THROW(align, size, HAK_KIND_ALIGNED_NEW_ARRAY, CALLER)
}
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag) {
  (void)tag;
  if (hak_new_replaced()) return hak_new_call_aligned_nothrow(_ZnwmSt11align_val_t, size, align);
  NEW_OR_NULL(align, size, HAK_KIND_ALIGNED_NEW, CALLER)
}
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag) {
  (void)tag;
  if (hak_new_replaced()) return hak_new_call_aligned_nothrow(_ZnamSt11align_val_t, size, align);
  NEW_OR_NULL(align, size, HAK_KIND_ALIGNED_NEW_ARRAY, CALLER)
}

// ---- delete -------------------------------------------------------------------------------------

HAK_INLINE void direct_delete(void *ptr, enum hak_release by) {
  if (HAK_GUARDED) {
    hak_guarded_delete(ptr, release_by(by));
  } else {
    hak_entry_free(ptr);
  }
}
static void single_delete(void *ptr) { direct_delete(ptr, HAK_BY_DELETE); }
static void aligned_delete(void *ptr, size_t align) {
  (void)align;
  direct_delete(ptr, HAK_BY_ALIGNED_DELETE);
}

// What remains to do when quick_delete returned false. The entry points of guarded builds are slow paths themselves.
HAK_INLINE void plain_delete(void *ptr, enum hak_release by) {
  if (HAK_GUARDED) {
    hak_guarded_delete(ptr, release_by(by));
  } else {
    hak_cold_free(ptr);
  }
}
HAK_INLINE void sized_delete(void *ptr, size_t align, size_t size, enum hak_release by) {
  if (HAK_GUARDED) {
    hak_guarded_delete_sized(ptr, align, size, release_by(by));
  } else {
    hak_cold_free(ptr);
  }
}

// Frees `ptr` by `ours`, or by `theirs` if the program has replaced a form.
#define DELETE_OR(theirs, ours)         \
  if (!HAK_LIKELY(quick_delete(ptr))) { \
    if (hak_new_replaced()) {           \
      theirs;                           \
    } else {                            \
      ours;                             \
    }                                   \
  }

static void array_delete(void *ptr) { DELETE_OR(_ZdlPv(ptr), plain_delete(ptr, HAK_BY_DELETE_ARRAY)) }
void _ZdlPvm(void *ptr, size_t size) { DELETE_OR(_ZdlPv(ptr), sized_delete(ptr, 1, size, HAK_BY_DELETE)) }
void _ZdaPvm(void *ptr, size_t size) { DELETE_OR(_ZdaPv(ptr), sized_delete(ptr, 1, size, HAK_BY_DELETE_ARRAY)) }
void _ZdlPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdlPv(ptr), plain_delete(ptr, HAK_BY_DELETE))
}
void _ZdaPvRKSt9nothrow_t(void *ptr, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdaPv(ptr), plain_delete(ptr, HAK_BY_DELETE_ARRAY))
}
void _ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdlPv(ptr), sized_delete(ptr, 1, size, HAK_BY_DELETE))
}
void _ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdaPv(ptr), sized_delete(ptr, 1, size, HAK_BY_DELETE_ARRAY))
}

static void aligned_array_delete(void *ptr, size_t align) {
  DELETE_OR(_ZdlPvSt11align_val_t(ptr, align), plain_delete(ptr, HAK_BY_ALIGNED_DELETE_ARRAY))
}
void _ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align) {
  DELETE_OR(_ZdlPvSt11align_val_t(ptr, align), sized_delete(ptr, align, size, HAK_BY_ALIGNED_DELETE))
}
void _ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align) {
  DELETE_OR(_ZdaPvSt11align_val_t(ptr, align), sized_delete(ptr, align, size, HAK_BY_ALIGNED_DELETE_ARRAY))
}
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdlPvSt11align_val_t(ptr, align), plain_delete(ptr, HAK_BY_ALIGNED_DELETE))
}
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const struct nothrow *tag) {
  (void)tag;
  DELETE_OR(_ZdaPvSt11align_val_t(ptr, align), plain_delete(ptr, HAK_BY_ALIGNED_DELETE_ARRAY))
}

#endif  // HAK_SANITIZED
