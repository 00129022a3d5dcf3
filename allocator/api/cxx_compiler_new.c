// SPDX-License-Identifier: Apache-2.0
//
// The forms of operator new that compilers and libraries call besides those of C++:
// - with a hint how often the block will be used, __hot_cold_t (clang -fmemory-profile-use, tcmalloc);
// - with the size of the block as a second result (P0901: libc++, tcmalloc), under LLVM's and tcmalloc's names;
// - both, and C++'s, with the number of LLVM's AllocToken interface: alloc_token.c.
//
// Hints are ignored, and numbers too, except that HARDENED keeps blocks with pointers apart. A form jumps to C++'s form
// by its symbol, so a program's own is used.
#include <hakmem/hakmem.h>

#include "allocator/api/cxx_new.h"
#include "allocator/api/entry.h"
#include "allocator/api/sized.h"

struct nothrow;  // std::nothrow_t

HAK_EXPORT void *_Znwm(size_t size);
HAK_EXPORT void *_Znam(size_t size);
HAK_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
HAK_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
HAK_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align);
HAK_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align);
HAK_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);
HAK_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const struct nothrow *tag);

// `function` under a name that others define too. An argument that is ignored needs no parameter: callers pass it in a
// register.
// NOLINTBEGIN(bugprone-macro-parentheses): a name that is declared
#define NAME(function, name) HAK_EXPORT __typeof__(function) name __attribute__((weak, alias(#function)))
// NOLINTEND(bugprone-macro-parentheses)

// Where the form that the program called returns to.
#define CALLER __builtin_return_address(0)

// ---- Blocks with pointers -------------------------------------------------------------------------

// With a number behind the arguments, or in the name. clang puts its prefix before the mangled name, _Znwm; its manual
// had names with one underscore less, too.
//
// TOKENS: the names of `function` with a number in which its arguments are followed by the number or, for `hinted`, by
// a hint and the number. APART_FORM: what these are where blocks with pointers are kept apart; the arguments of
// `function` stand behind its parameters.
#if HAK_HARDENED && (!HAK_SANITIZED || defined(HAK_RENAMED))

// A block with pointers; `align` is 0 for a form without alignment. As in cxx_override.c, but what the new handler
// frees serves a block with pointers too. `caller`: cxx_new.h.
HAK_NOINLINE static void *take_apart(size_t size, size_t align, bool throws, enum hak_kind kind, const void *caller) {
  for (;;) {
    void *block = hak_guarded_pointers(align != 0 ? align : 1, size, false, hak_new_kind(kind));
    if (HAK_LIKELY(block != NULL)) return block;
    const hak_new_handler handler = hak_get_new_handler(caller);
    if (handler == NULL && throws) hak_throw_bad_alloc(caller);
    if (handler == NULL) return NULL;
    if (throws) {
      handler();
    } else if (!hak_new_handle_nothrow(handler)) {
      return NULL;
    }
  }
}

// A program with an operator new of its own would free the block with its own operator delete.
static bool is_apart(size_t token) { return token == HAK_TOKEN_POINTERS && !hak_new_replaced(); }

#define BARE(...) __VA_ARGS__
#define APART_FORM(type, take, function, align, throws, kind, parameters, ...)                             \
  static type function##_one parameters {                                                                  \
    return is_apart(HAK_TOKEN_POINTERS) ? take(size, align, throws, kind, CALLER) : function(__VA_ARGS__); \
  }                                                                                                        \
  static type function##_number(BARE parameters, size_t token) {                                           \
    return is_apart(token) ? take(size, align, throws, kind, CALLER) : function(__VA_ARGS__);              \
  }                                                                                                        \
  static type function##_hinted(BARE parameters, uint8_t hint, size_t token) {                             \
    (void)hint;                                                                                            \
    return is_apart(token) ? take(size, align, throws, kind, CALLER) : function(__VA_ARGS__);              \
  }
#define TOKENS(function, number, called)             \
  NAME(function##_##number, __alloc_token_##called); \
  NAME(function, __alloc_token_0_##called);          \
  NAME(function##_one, __alloc_token_1_##called)

#else

#define APART_FORM(type, take, function, align, throws, kind, parameters, ...) \
  static_assert(true, "all blocks are alike");
#define TOKENS(function, number, called)    \
  NAME(function, __alloc_token_##called);   \
  NAME(function, __alloc_token_0_##called); \
  NAME(function, __alloc_token_1_##called)

#endif

// ---- With a hint, with a number, and with both ----------------------------------------------------

#define BOTH_TOKENS(function, number, mangled) \
  TOKENS(function, number, _##mangled);        \
  TOKENS(function, number, mangled)
#define NAMES_OF_NEW(function, mangled)       \
  NAME(function, _##mangled##12__hot_cold_t); \
  BOTH_TOKENS(function, number, mangled);     \
  BOTH_TOKENS(function, hinted, mangled##12__hot_cold_t)

static void *single_new(size_t size) { return _Znwm(size); }
APART_FORM(void *, take_apart, single_new, 0, true, HAK_KIND_NEW, (size_t size), size)
NAMES_OF_NEW(single_new, Znwm);

static void *array_new(size_t size) { return _Znam(size); }
APART_FORM(void *, take_apart, array_new, 0, true, HAK_KIND_NEW_ARRAY, (size_t size), size)
NAMES_OF_NEW(array_new, Znam);

static void *nothrow_new(size_t size, const struct nothrow *tag) { return _ZnwmRKSt9nothrow_t(size, tag); }
APART_FORM(void *, take_apart, nothrow_new, 0, false, HAK_KIND_NEW, (size_t size, const struct nothrow *tag), size, tag)
NAMES_OF_NEW(nothrow_new, ZnwmRKSt9nothrow_t);

static void *nothrow_array_new(size_t size, const struct nothrow *tag) { return _ZnamRKSt9nothrow_t(size, tag); }
APART_FORM(void *, take_apart, nothrow_array_new, 0, false, HAK_KIND_NEW_ARRAY,
           (size_t size, const struct nothrow *tag), size, tag)
NAMES_OF_NEW(nothrow_array_new, ZnamRKSt9nothrow_t);

static void *aligned_new(size_t size, size_t align) { return _ZnwmSt11align_val_t(size, align); }
APART_FORM(void *, take_apart, aligned_new, align, true, HAK_KIND_ALIGNED_NEW, (size_t size, size_t align), size, align)
NAMES_OF_NEW(aligned_new, ZnwmSt11align_val_t);

static void *aligned_array_new(size_t size, size_t align) { return _ZnamSt11align_val_t(size, align); }
APART_FORM(void *, take_apart, aligned_array_new, align, true, HAK_KIND_ALIGNED_NEW_ARRAY, (size_t size, size_t align),
           size, align)
NAMES_OF_NEW(aligned_array_new, ZnamSt11align_val_t);

static void *aligned_nothrow_new(size_t size, size_t align, const struct nothrow *tag) {
  return _ZnwmSt11align_val_tRKSt9nothrow_t(size, align, tag);
}
APART_FORM(void *, take_apart, aligned_nothrow_new, align, false, HAK_KIND_ALIGNED_NEW,
           (size_t size, size_t align, const struct nothrow *tag), size, align, tag)
NAMES_OF_NEW(aligned_nothrow_new, ZnwmSt11align_val_tRKSt9nothrow_t);

static void *aligned_nothrow_array_new(size_t size, size_t align, const struct nothrow *tag) {
  return _ZnamSt11align_val_tRKSt9nothrow_t(size, align, tag);
}
APART_FORM(void *, take_apart, aligned_nothrow_array_new, align, false, HAK_KIND_ALIGNED_NEW_ARRAY,
           (size_t size, size_t align, const struct nothrow *tag), size, align, tag)
NAMES_OF_NEW(aligned_nothrow_array_new, ZnamSt11align_val_tRKSt9nothrow_t);

// NOLINTBEGIN(bugprone-reserved-identifier): the names are those that others chose

// ---- With the size as a second result --------------------------------------------------------------

// __sized_ptr_t. The size is at least that of the request, and may be passed to a sized delete.
struct sized_block {
  void *block;
  size_t size;
};

// An operator new that is not hakmem's does not tell a size: the request's.
HAK_NOINLINE static struct sized_block from_program(size_t size, size_t align, bool throws) {
  static const char tag = 0;
  const struct nothrow *const no = (const void *)&tag;
  void *block = NULL;
  if (align == 0) {
    block = throws ? _Znwm(size) : _ZnwmRKSt9nothrow_t(size, no);
  } else {
    block = throws ? _ZnwmSt11align_val_t(size, align) : _ZnwmSt11align_val_tRKSt9nothrow_t(size, align, no);
  }
  return (struct sized_block){.block = block, .size = block != NULL ? size : 0};
}

// `align` is 0 for a form without alignment. `caller`: cxx_new.h.
HAK_NOINLINE static struct sized_block sized_new(size_t size, size_t align, bool throws, const void *caller) {
#if HAK_SANITIZED && !defined(HAK_RENAMED)
  (void)caller;
  return from_program(size, align, throws);
#else
  if (hak_new_replaced()) return from_program(size, align, throws);
  const size_t least = align != 0 ? align : 1;
  const enum hak_kind kind = align != 0 ? HAK_KIND_ALIGNED_NEW : HAK_KIND_NEW;
  void *block = hak_entry_aligned(least, size);
  if (HAK_UNLIKELY(block == NULL)) {
    block = throws ? hak_new_after_failure(least, size, caller) : hak_new_after_failure_nothrow(least, size, caller);
    if (block == NULL) return (struct sized_block){.block = NULL, .size = 0};
  }
  block = hak_new_of_kind(block, kind);
  // A larger alignment may take a larger block.
  const size_t usable = least <= HAK_MIN_ALIGN ? hak_entry_good_size(size) : hak_entry_usable(block);
  return (struct sized_block){.block = block, .size = usable};
#endif
}

// The block's usable size is its requested size.
#if HAK_HARDENED && (!HAK_SANITIZED || defined(HAK_RENAMED))
static struct sized_block sized_apart(size_t size, size_t align, bool throws, enum hak_kind kind, const void *caller) {
  void *block = take_apart(size, align, throws, kind, caller);
  return (struct sized_block){.block = block, .size = block != NULL ? size : 0};
}
#endif

static struct sized_block sized_single_new(size_t size) { return sized_new(size, 0, true, CALLER); }
APART_FORM(struct sized_block, sized_apart, sized_single_new, 0, true, HAK_KIND_NEW, (size_t size), size)
NAME(sized_single_new, __size_returning_new);
NAME(sized_single_new, __size_returning_new_hot_cold);
NAME(sized_single_new, tcmalloc_size_returning_operator_new);
NAME(sized_single_new, tcmalloc_size_returning_operator_new_hot_cold);
TOKENS(sized_single_new, number, __size_returning_new);
TOKENS(sized_single_new, hinted, __size_returning_new_hot_cold);

static struct sized_block sized_aligned_new(size_t size, size_t align) { return sized_new(size, align, true, CALLER); }
APART_FORM(struct sized_block, sized_apart, sized_aligned_new, align, true, HAK_KIND_ALIGNED_NEW,
           (size_t size, size_t align), size, align)
NAME(sized_aligned_new, __size_returning_new_aligned);
NAME(sized_aligned_new, __size_returning_new_aligned_hot_cold);
NAME(sized_aligned_new, tcmalloc_size_returning_operator_new_aligned);
NAME(sized_aligned_new, tcmalloc_size_returning_operator_new_aligned_hot_cold);
TOKENS(sized_aligned_new, number, __size_returning_new_aligned);
TOKENS(sized_aligned_new, hinted, __size_returning_new_aligned_hot_cold);

static struct sized_block sized_nothrow_new(size_t size) { return sized_new(size, 0, false, CALLER); }
NAME(sized_nothrow_new, tcmalloc_size_returning_operator_new_nothrow);
NAME(sized_nothrow_new, tcmalloc_size_returning_operator_new_hot_cold_nothrow);

static struct sized_block sized_aligned_nothrow_new(size_t size, size_t align) {
  return sized_new(size, align, false, CALLER);
}
NAME(sized_aligned_nothrow_new, tcmalloc_size_returning_operator_new_aligned_nothrow);
NAME(sized_aligned_nothrow_new, tcmalloc_size_returning_operator_new_aligned_hot_cold_nothrow);

// NOLINTEND(bugprone-reserved-identifier)
