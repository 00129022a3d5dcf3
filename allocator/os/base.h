// SPDX-License-Identifier: Apache-2.0
//
// What every floor shares: the build profile, the header mode, compiler attributes and the few numbers of the layout.
#ifndef HAKMEM_OS_BASE_H_
#define HAKMEM_OS_BASE_H_

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Build profile: exactly one is 1. No define at all is STANDARD. -----------------------------
#if defined(HAK_PROFILE_FAST)
#define HAK_FAST 1
#define HAK_STANDARD 0
#define HAK_OBSERVE 0
#define HAK_HARDENED 0
#define HAK_PROFILE_NAME "fast"
#elif defined(HAK_PROFILE_OBSERVE)
#define HAK_FAST 0
#define HAK_STANDARD 0
#define HAK_OBSERVE 1
#define HAK_HARDENED 0
#define HAK_PROFILE_NAME "observe"
#elif defined(HAK_PROFILE_HARDENED)
#define HAK_FAST 0
#define HAK_STANDARD 0
#define HAK_OBSERVE 0
#define HAK_HARDENED 1
#define HAK_PROFILE_NAME "hardened"
#else
#define HAK_FAST 0
#define HAK_STANDARD 1
#define HAK_OBSERVE 0
#define HAK_HARDENED 0
#define HAK_PROFILE_NAME "standard"
#endif
// Blocks end where the request ended: a canary behind small ones (block/block_tail.h), guard pages around large ones
// (large/guarded.h).
#define HAK_GUARDED (HAK_OBSERVE || HAK_HARDENED)

// ---- Header lane: what stands in the byte before a small block (block/tiny_region_id.h) ----------
#define HAK_HEADER_MODE_NONE 0
#define HAK_HEADER_MODE_PRESERVE 1
#define HAK_HEADER_MODE_ALWAYS 2
#if defined(HAK_HEADER_ALWAYS) || (HAK_GUARDED && !defined(HAK_HEADER_NONE) && !defined(HAK_HEADER_PRESERVE))
#define HAK_HEADER HAK_HEADER_MODE_ALWAYS
#define HAK_HEADER_NAME "always"
#elif defined(HAK_HEADER_PRESERVE)
#define HAK_HEADER HAK_HEADER_MODE_PRESERVE
#define HAK_HEADER_NAME "preserve"
#else
#define HAK_HEADER HAK_HEADER_MODE_NONE
#define HAK_HEADER_NAME "none"
#endif
// Bytes that the header takes from the usable size of a small block.
#define HAK_HEADER_BYTES (HAK_HEADER == HAK_HEADER_MODE_NONE ? 0u : 1u)

// Around the declarations of an internal header. Hidden: the compiler then knows that a name is in this very library
// and reaches it without the global offset table; the command line's -fvisibility speaks of definitions only.
#ifdef __cplusplus
// A function or table may have the name of its struct, as in C; g++ calls that hiding the constructor.
#define HAK_C_BEGIN                                                                          \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"") extern "C" { \
    _Pragma("GCC visibility push(hidden)")
#define HAK_C_END               \
  _Pragma("GCC visibility pop") \
  }                             \
  _Pragma("GCC diagnostic pop")
#else
#define HAK_C_BEGIN _Pragma("GCC visibility push(hidden)")
#define HAK_C_END _Pragma("GCC visibility pop")
#endif

// ---- Compiler -----------------------------------------------------------------------------------
#define HAK_LIKELY(x) __builtin_expect(!!(x), 1)
#define HAK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HAK_INLINE static inline __attribute__((always_inline))
#define HAK_COLD __attribute__((cold, noinline))
#define HAK_NOINLINE __attribute__((noinline))

// ---- Layout -------------------------------------------------------------------------------------
#define HAK_CACHE_LINE 64u
#define HAK_MIN_ALIGN 16u
#define HAK_SLAB_SHIFT 16u
#define HAK_SLAB_SIZE ((size_t)1 << HAK_SLAB_SHIFT)
// Bytes at the end of each slab that no block uses: a guard page where pages are of 4 KiB, unused space where they are
// larger.
#define HAK_SLAB_GUARD (HAK_HARDENED ? (size_t)4096 : (size_t)0)
#define HAK_SLAB_ROOM (HAK_SLAB_SIZE - HAK_SLAB_GUARD)
#define HAK_SUPERSLAB_SHIFT 21u
#define HAK_SUPERSLAB_SIZE ((size_t)1 << HAK_SUPERSLAB_SHIFT)
#define HAK_SLABS_PER_SUPERSLAB 32u

static_assert(HAK_SUPERSLAB_SIZE / HAK_SLAB_SIZE == HAK_SLABS_PER_SUPERSLAB, "a superslab is 32 slabs");
static_assert(sizeof(void *) == 8, "hakmem is for 64-bit address spaces");

HAK_INLINE size_t hak_round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }
// Without the processor's own instruction, which not all have, the compiler calls a function.
HAK_INLINE uint32_t hak_popcount(uint32_t n) {
  n -= (n >> 1) & 0x55555555u;
  n = (n & 0x33333333u) + ((n >> 2) & 0x33333333u);
  return ((n + (n >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
}
HAK_INLINE bool hak_is_pow2(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

#endif  // HAKMEM_OS_BASE_H_
