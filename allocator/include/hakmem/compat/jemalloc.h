// SPDX-License-Identifier: Apache-2.0
//
// jemalloc's functions with flags, over hakmem's interface: for programs that call mallocx, rallocx, xallocx, sallocx,
// dallocx, sdallocx or nallocx. Include this header instead of <jemalloc/jemalloc.h>, whose other functions
// docs/MIGRATING.md compares with hakmem's. C11 or later and C++11 or later; header-only.
//
// The functions do what jemalloc's manual says. Where that leaves something undefined, and where hakmem differs:
//   * The "real size" of a block is its usable size. In OBSERVE and HARDENED builds it is the requested size.
//   * A size of 0 counts as 1. With NULL as the block, rallocx allocates, xallocx and sallocx return 0, dallocx and
//     sdallocx do nothing.
//   * Arenas and explicit thread caches do not exist: MALLOCX_ARENA and MALLOCX_TCACHE have no effect. A program that
//     relies on its own arena, to destroy it for instance, needs something else.
//   * MALLOCX_TCACHE_NONE goes round the thread's cache as hak_malloc_nocache and hak_free_nocache do, in mallocx
//     without an alignment over 16, in dallocx and in sdallocx, which then does not check the size. Elsewhere it has no
//     effect.
//   * A request that cannot be served returns NULL with errno ENOMEM, also one that overflows. On success errno is
//     preserved.
// All else is as for hakmem's own functions: these blocks may be passed to hak_free and the rest, and theirs to these.
#ifndef HAKMEM_COMPAT_JEMALLOC_H_
#define HAKMEM_COMPAT_JEMALLOC_H_

#if defined(MALLOCX_LG_ALIGN)
#error "another allocator's header defines MALLOCX_LG_ALIGN: include <hakmem/compat/jemalloc.h> instead of it"
#endif

#include <hakmem/hakmem.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
#define HAK_COMPAT_INLINE inline
#else
#define HAK_COMPAT_INLINE static inline
#endif

// ---- Flags --------------------------------------------------------------------------------------

// They are combined by `|`, and have jemalloc's values, so that a number that a program computes itself has the same
// meaning.

// At a multiple of 1 << la; `la` is at most 63.
#define MALLOCX_LG_ALIGN(la) ((int)(la))
// At a multiple of `a`, a power of two.
#define MALLOCX_ALIGN(a) ((int)__builtin_ctzll((unsigned long long)(a)))
// New bytes are zero: the whole real size of a new block, and what is beyond the previous real size of a resized one.
#define MALLOCX_ZERO 0x40
#define MALLOCX_TCACHE(tc) ((int)(((unsigned)(tc) + 2u) << 8))
#define MALLOCX_TCACHE_NONE MALLOCX_TCACHE(-1)
#define MALLOCX_ARENA(a) ((int)(((unsigned)(a) + 1u) << 20))

// ---- Internal -----------------------------------------------------------------------------------

// The alignment that hak_malloc always gives.
#define HAK_COMPAT_EVERY_ALIGNMENT ((size_t)16)

HAK_COMPAT_INLINE size_t hak_compat_alignment(int flags) { return (size_t)1 << ((unsigned)flags & 0x3fu); }
HAK_COMPAT_INLINE size_t hak_compat_size(size_t size) { return size != 0 ? size : 1; }
// Whether the flags ask for no thread cache. The number of a cache has bits 8 to 19.
HAK_COMPAT_INLINE bool hak_compat_is_uncached(int flags) { return (flags & 0xfff00) == MALLOCX_TCACHE_NONE; }

// The same block, without what the compiler knows about its size. The program may use the whole real size, which is
// more than was requested, so checks that use the requested size (_FORTIFY_SOURCE) would end it.
HAK_COMPAT_INLINE void *hak_compat_whole(void *block) {
#if defined(__GNUC__)
  __asm__("" : "+r"(block));
#endif
  return block;
}

// Clears the bytes of the block from offset `from` on, up to its real size.
HAK_COMPAT_INLINE void hak_compat_clear(void *block, size_t from) {
  const size_t real = hak_usable_size(block);
  if (real > from) memset((char *)block + from, 0, real - from);
}

// ---- jemalloc's functions -----------------------------------------------------------------------

// Returns a block of at least `size` bytes, or NULL. Obeys the alignment and MALLOCX_ZERO.
HAK_COMPAT_INLINE void *mallocx(size_t size, int flags) HAK_NOEXCEPT {
  const size_t alignment = hak_compat_alignment(flags);
  const size_t bytes = hak_compat_size(size);
  const bool aligned = alignment > HAK_COMPAT_EVERY_ALIGNMENT;
  if (!aligned && hak_compat_is_uncached(flags)) {
    void *const uncached = hak_compat_whole(hak_malloc_nocache(bytes));
    if (uncached != NULL && (flags & MALLOCX_ZERO) != 0) hak_compat_clear(uncached, 0);
    return uncached;
  }
  if ((flags & MALLOCX_ZERO) == 0) {
    return hak_compat_whole(aligned ? hak_aligned_alloc(alignment, bytes) : hak_malloc(bytes));
  }
  void *const block = hak_compat_whole(aligned ? hak_aligned_calloc(alignment, 1, bytes) : hak_zalloc(bytes));
  // A later rallocx with MALLOCX_ZERO clears only what is beyond the real size.
  if (block != NULL) hak_compat_clear(block, bytes);
  return block;
}

// Resizes the block `ptr` to at least `size` bytes, moving it if necessary, and returns it. The bytes up to the lesser
// of `size` and the previous real size are preserved. Obeys the alignment, whatever that of `ptr` was, and
// MALLOCX_ZERO, by which a block that moves is also zero behind `size`. On failure it returns NULL, and `ptr` is still
// live and unchanged.
HAK_COMPAT_INLINE void *rallocx(void *ptr, size_t size, int flags) HAK_NOEXCEPT {
  const size_t alignment = hak_compat_alignment(flags);
  const size_t bytes = hak_compat_size(size);
  const bool zero = (flags & MALLOCX_ZERO) != 0;
  const size_t before = zero ? hak_usable_size(ptr) : 0;
  const uintptr_t place = (uintptr_t)ptr;
  void *const block = hak_compat_whole(
      alignment > HAK_COMPAT_EVERY_ALIGNMENT ? hak_aligned_realloc(ptr, alignment, bytes) : hak_realloc(ptr, bytes));
  // A block that moved has only the bytes that were asked for.
  if (zero && block != NULL) hak_compat_clear(block, (uintptr_t)block != place && bytes < before ? bytes : before);
  return block;
}

// Resizes the block `ptr` without moving it: to at least `size` + `extra` bytes if possible, otherwise to at least
// `size`. Returns the real size that the block then has; less than `size`: it could not grow, and is unchanged. Obeys
// MALLOCX_ZERO; the alignment stays as it is. Preserves errno. Once a call with `extra` has succeeded, the size for
// sdallocx is the one that it returned.
HAK_COMPAT_INLINE size_t xallocx(void *ptr, size_t size, size_t extra, int flags) HAK_NOEXCEPT {
  const size_t bytes = hak_compat_size(size);
  const size_t most = extra > SIZE_MAX - bytes ? SIZE_MAX : bytes + extra;
  const size_t before = hak_usable_size(ptr);
  // A block that is large enough does not shrink if it could not get `extra`.
  if (hak_realloc_in_place(ptr, most) == NULL && before < bytes) (void)hak_realloc_in_place(ptr, bytes);
  if ((flags & MALLOCX_ZERO) != 0) hak_compat_clear(ptr, before);
  return hak_usable_size(ptr);
}

// Returns the real size of the live block `ptr`: how many bytes of it may be used. No flag matters.
HAK_COMPAT_INLINE size_t sallocx(const void *ptr, int flags) HAK_NOEXCEPT {
  (void)flags;
  return hak_usable_size(ptr);
}

// Frees the block. Obeys MALLOCX_TCACHE_NONE, whether the block came with it or not. Preserves errno.
HAK_COMPAT_INLINE void dallocx(void *ptr, int flags) HAK_NOEXCEPT {
  if (hak_compat_is_uncached(flags)) {
    hak_free_nocache(ptr);
  } else {
    hak_free(ptr);
  }
}

// Frees the block. `size` is between the requested size and the real one, `flags` has the alignment of the request.
// OBSERVE and HARDENED builds check both, unless the flags have MALLOCX_TCACHE_NONE, which it obeys. Preserves errno.
HAK_COMPAT_INLINE void sdallocx(void *ptr, size_t size, int flags) HAK_NOEXCEPT {
  const size_t alignment = hak_compat_alignment(flags);
  const size_t bytes = hak_compat_size(size);
  if (hak_compat_is_uncached(flags)) {
    hak_free_nocache(ptr);
  } else if (alignment > HAK_COMPAT_EVERY_ALIGNMENT) {
    hak_free_aligned_sized(ptr, alignment, bytes);
  } else {
    hak_free_sized(ptr, bytes);
  }
}

// Returns the real size that a block of mallocx(size, flags) has at least, without allocating; 0 for a request that
// overflows. With an alignment over 16 it is `size` itself, and the block may well have more.
HAK_COMPAT_INLINE size_t nallocx(size_t size, int flags) HAK_NOEXCEPT {
  const size_t alignment = hak_compat_alignment(flags);
  const size_t most = (size_t)PTRDIFF_MAX;
  const size_t bytes = hak_compat_size(size);
  const size_t real = hak_good_size(bytes);  // 0 for what overflows
  if (alignment > most || real > most - alignment) return 0;
  return alignment > HAK_COMPAT_EVERY_ALIGNMENT && real != 0 ? bytes : real;
}

#endif  // HAKMEM_COMPAT_JEMALLOC_H_
