// SPDX-License-Identifier: Apache-2.0
//
// What all rooms share: the build profile, the header mode, compiler attributes, and the constants of the layout.
#ifndef HAKMEM_OS_BASE_H_
#define HAKMEM_OS_BASE_H_

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- Build profile: exactly one is 1. Without a definition it is STANDARD. ----------------------
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
// Whether a block's usable size is the requested size. Small blocks have a canary behind it (block/block_tail.h), large
// blocks have guard pages around them (large/guarded.h).
#define HAK_GUARDED (HAK_OBSERVE || HAK_HARDENED)

// Whether allocations can be sampled (prof/sampler.h).
#define HAK_PROF (!HAK_FAST)

// ---- Header lane: the byte before a small block (block/tiny_region_id.h) -------------------------
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

// ---- Sanitizers with a malloc of their own: two mallocs in one program exclude each other --------
// Only the compiler knows its options, however the build passes them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_HWADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAK_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(hwaddress_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(thread_sanitizer)
#define HAK_SANITIZED 1
#endif
#endif
#ifndef HAK_SANITIZED
#define HAK_SANITIZED 0
#endif

// Enclose the declarations of an internal header. Hidden visibility tells the compiler that a name is defined in this
// library, so that it is reached without the global offset table. The option -fvisibility applies to definitions only.
#ifdef __cplusplus
// As in C, a function or a table may have the same name as a struct. g++ warns that it hides the constructor.
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
// Bytes at the end of each slab that no block uses: a guard page if pages have 4 KiB, otherwise unused space.
#define HAK_SLAB_GUARD (HAK_HARDENED ? (size_t)4096 : (size_t)0)
#define HAK_SLAB_ROOM (HAK_SLAB_SIZE - HAK_SLAB_GUARD)
#define HAK_SUPERSLAB_SHIFT 21u
#define HAK_SUPERSLAB_SIZE ((size_t)1 << HAK_SUPERSLAB_SHIFT)
#define HAK_SLABS_PER_SUPERSLAB 32u

static_assert(HAK_SUPERSLAB_SIZE / HAK_SLAB_SIZE == HAK_SLABS_PER_SUPERSLAB, "a superslab is 32 slabs");
static_assert(sizeof(void *) == 8, "hakmem is for 64-bit address spaces");

HAK_INLINE size_t hak_round_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }
// The compiler's built-in calls a function where it may not assume that the processor has the instruction.
HAK_INLINE uint32_t hak_popcount(uint32_t n) {
  n -= (n >> 1) & 0x55555555u;
  n = (n & 0x33333333u) + ((n >> 2) & 0x33333333u);
  return ((n + (n >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
}
HAK_INLINE bool hak_is_pow2(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

#endif  // HAKMEM_OS_BASE_H_
