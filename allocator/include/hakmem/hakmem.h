// SPDX-License-Identifier: Apache-2.0
//
// hakmem: a general-purpose memory allocator for Linux (x86-64, aarch64).
//
// This is the whole public interface; it works from C (C11 on) and C++ (C++11 on).
//
// Common rules, unless a function says otherwise:
//   * Sizes and alignments are in bytes. Every block is aligned to at least 16 bytes.
//   * A size over PTRDIFF_MAX is refused: NULL and errno = ENOMEM.
//   * When memory cannot be had the result is NULL and errno = ENOMEM; nothing the caller holds is changed.
//   * Successful calls and every way of freeing leave errno as it was.
//   * Every function may be called by any thread at any time; a block may be freed by another thread than the one that
//     allocated it. None is async-signal-safe.
//   * A block of one hak_* function may be given to any other, and, where the libc override is in use, to free(),
//     realloc() and the rest, and the other way round.
//   * Misuse (a pointer that is not a live block) ends the process with one line on stderr,
//     "hakmem: <what>: <pointer>", and SIGABRT. README.md tells which misuse is noticed when, by build profile.
#ifndef HAKMEM_HAKMEM_H_
#define HAKMEM_HAKMEM_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HAK_VERSION_MAJOR 0
#define HAK_VERSION_MINOR 1
#define HAK_VERSION_PATCH 0

#if defined(__GNUC__)
#define HAK_EXPORT __attribute__((visibility("default")))
#define HAK_ATTR_MALLOC __attribute__((malloc, warn_unused_result))
#define HAK_ATTR_SIZE(n) __attribute__((alloc_size(n)))
#define HAK_ATTR_SIZE2(n, m) __attribute__((alloc_size(n, m)))
#define HAK_ATTR_ALIGN(n) __attribute__((alloc_align(n)))
#else
#define HAK_EXPORT
#define HAK_ATTR_MALLOC
#define HAK_ATTR_SIZE(n)
#define HAK_ATTR_SIZE2(n, m)
#define HAK_ATTR_ALIGN(n)
#endif

#ifdef __cplusplus
#define HAK_NOEXCEPT noexcept
extern "C" {
#else
#define HAK_NOEXCEPT
#endif

// ---- Allocation: the C library's functions under another name -----------------------------------

// A block of at least `size` bytes, contents undefined. `size` 0 gives a unique block that may be freed (C17 7.22.3.4).
HAK_EXPORT void *hak_malloc(size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(1);

// A block for `count` objects of `size` bytes each, all bits zero. ENOMEM also when the product overflows
// (C17 7.22.3.2).
HAK_EXPORT void *hak_calloc(size_t count, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE2(1, 2);

// hak_calloc(1, size).
HAK_EXPORT void *hak_zalloc(size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(1);

// Changes the size of `ptr`, moving it where it must; the first min(old, new) bytes are kept. `ptr` NULL is
// hak_malloc(size). `size` 0 with a block frees it and returns NULL, as the GNU C library does. When NULL comes back
// for another size the old block is still live and unchanged (C17 7.22.3.5).
HAK_EXPORT void *hak_realloc(void *ptr, size_t size) HAK_NOEXCEPT __attribute__((warn_unused_result)) HAK_ATTR_SIZE(2);

// hak_realloc(ptr, count * size); ENOMEM and the old block unchanged when the product overflows (POSIX.1-2024).
HAK_EXPORT void *hak_reallocarray(void *ptr, size_t count, size_t size) HAK_NOEXCEPT __attribute__((warn_unused_result))
HAK_ATTR_SIZE2(2, 3);

// Frees `ptr`, a live block or NULL.
HAK_EXPORT void hak_free(void *ptr) HAK_NOEXCEPT;

// Frees `ptr`, a live block got by malloc, calloc or realloc with `size` bytes, or NULL (C23 7.24.3.4). OBSERVE builds
// check the size.
HAK_EXPORT void hak_free_sized(void *ptr, size_t size) HAK_NOEXCEPT;

// Frees `ptr`, a live block got by aligned_alloc with `alignment` and `size`, or NULL (C23 7.24.3.5). OBSERVE builds
// check both.
HAK_EXPORT void hak_free_aligned_sized(void *ptr, size_t alignment, size_t size) HAK_NOEXCEPT;

// A block of `size` bytes at a multiple of `alignment`, a power of two; `size` need not be its multiple. Another
// alignment gives NULL and EINVAL (C17 7.22.3.1).
HAK_EXPORT void *hak_aligned_alloc(size_t alignment, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(2)
    HAK_ATTR_ALIGN(1);

// As hak_aligned_alloc, but an alignment that is no power of two is rounded up to the next one (as the GNU C library).
HAK_EXPORT void *hak_memalign(size_t alignment, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(2);

// Stores a block of `size` bytes at a multiple of `alignment` in `*out` and returns 0. Returns EINVAL when `alignment`
// is not a power of two multiple of sizeof(void *), ENOMEM when memory cannot be had; `*out` and errno are then
// untouched (POSIX.1-2024).
HAK_EXPORT int hak_posix_memalign(void **out, size_t alignment, size_t size) HAK_NOEXCEPT;

// ---- Sizes --------------------------------------------------------------------------------------

// How many bytes of the live block `ptr` may be used: at least what was asked for, the same as long as the block lives.
// 0 for NULL.
HAK_EXPORT size_t hak_usable_size(const void *ptr) HAK_NOEXCEPT;

// The usable size of the class that a request of `size` bytes belongs to: the size to ask for that wastes nothing.
// hak_malloc(size) gives at least that much. In OBSERVE and HARDENED blocks are as large as asked for: `size` itself. 0
// when `size` is over PTRDIFF_MAX.
HAK_EXPORT size_t hak_good_size(size_t size) HAK_NOEXCEPT;

// Makes `ptr`, a live block, usable for `size` bytes without moving it. Returns `ptr`, or NULL (errno untouched, the
// block unchanged) when it would have to move. A large block may grow or shrink; a smaller one never changes its usable
// size, and the call tells whether `size` fits into it.
HAK_EXPORT void *hak_realloc_in_place(void *ptr, size_t size) HAK_NOEXCEPT;

// ---- Memory that can go back --------------------------------------------------------------------

// Gives the blocks cached by the calling thread back to their slabs, where other threads and the operating system can
// have them.
HAK_EXPORT void hak_thread_flush(void) HAK_NOEXCEPT;

// hak_thread_flush, then takes in what other threads have cached (but for the latest block of each size class, and
// where the kernel has no membarrier all of it) and what was freed into their slabs, and returns every empty slab and
// cached mapping above `keep_bytes` of them to the operating system, at once. Returns how many bytes went back.
HAK_EXPORT size_t hak_trim(size_t keep_bytes) HAK_NOEXCEPT;

// ---- Settings of a program ----------------------------------------------------------------------

// A program's own settings. The library's is NULL and weak; a program that wants some defines it:
//
//   const char *hak_conf = "profile=lean,thread_cache_kb=512";
//
// Items are NAME=value with commas or white space between them; NAME and values are those of docs/ENV.md, the name with
// or without HAKMEM_, in letters of either case. Of two items with one name the last counts. At most 4,096 bytes. The
// environment beats it; it beats //configs:conf and the presets. An item that is not accepted is reported on stderr
// with what is, and ignored; the others count. A process with raised privileges obeys it too. FAST builds do not read
// it.
//
// It is read once, when the process starts, before main and before most constructors: initialise it with a literal, in
// the executable itself, in C or inside extern "C". Where the allocator is a shared library that the
// program is not linked with (LD_PRELOAD), link the program with -rdynamic or -Wl,--export-dynamic-symbol=hak_conf.
HAK_EXPORT extern const char *hak_conf;

// ---- Looking inside -----------------------------------------------------------------------------

// The version of the library that is linked in, "MAJOR.MINOR.PATCH PROFILE header=MODE", for instance
// "0.1.0 standard header=none". A static string.
HAK_EXPORT const char *hak_version(void) HAK_NOEXCEPT;

#define HAK_STATS_VERSION 4

// Statistics of the process. Bytes unless a name says otherwise. Fields are only ever added at the end, and `version`
// then rises; a library fills in what it and the caller both know.
typedef struct hak_stats {
  uint32_t version;            // set by the caller to HAK_STATS_VERSION; the library lowers it to what it filled in
  uint32_t threads;            // threads that have a heap of their own now
  uint64_t live_blocks;        // blocks that the program holds: allocated and not freed
  uint64_t live_bytes;         // the usable sizes of these blocks, added up
  uint64_t cached_blocks;      // freed small blocks that threads keep for themselves
  uint64_t cached_bytes;       // and their bytes
  uint64_t mapped_bytes;       // address space that is mapped for blocks and for the allocator's own records
  uint64_t committed_bytes;    // the part of it that may be resident: used, or freed and not yet given back
  uint64_t peak_mapped_bytes;  // the most that mapped_bytes has been
  uint64_t metadata_bytes;     // the part of mapped_bytes that holds records rather than blocks
  uint64_t superslabs;         // 2 MiB regions mapped now
  uint64_t slabs_used;         // 64 KiB slabs in use for small blocks
  uint64_t slabs_free;         // 64 KiB slabs in no use
  uint64_t large_blocks;       // live blocks too large for a slab, contained in live_blocks
  uint64_t large_bytes;        // their usable bytes, contained in live_bytes
  uint64_t refills;            // times a thread's cache ran empty (0 in FAST)
  uint64_t flushes;            // times a thread's cache ran full (0 in FAST)
  uint64_t remote_batches;     // batches of blocks handed to another thread's slab (0 in FAST)
  uint64_t slabs_adopted;      // slabs of ended threads taken over by living ones
  uint64_t decommitted_bytes;  // bytes given back to the operating system so far by decommit
  uint64_t os_calls;           // memory system calls made so far
  // From version 2 on. How the memory came back, and what held it:
  uint64_t heap_free_bytes;       // bytes of free blocks in slabs that threads own
  uint64_t pool_free_bytes;       // bytes of free slabs that may have memory
  uint64_t purged_bytes;          // bytes of free pages in slabs partly in use, given back and not used since
  uint64_t decommits;             // successful calls that gave pages back
  uint64_t lazy_bytes;            // bytes left to the kernel to take when it needs them (LEAN's FREE)
  uint64_t deadline_releases;     // superslabs whose free memory went back at the deadline
  uint64_t deadline_bytes;        // and how much that was
  uint64_t lean_decommits;        // times that LEAN gave a slab's memory back as it fell free
  uint64_t lean_bytes;            // and how much that was
  uint64_t superslabs_unmapped;   // superslabs given back with their addresses
  uint64_t superslabs_prewarmed;  // superslabs filled with memory at the start
  uint64_t prewarm_skipped;       // superslabs that were not, because LEAN suppressed it
  uint64_t idle_blocks_taken;     // blocks taken out of the caches of idle threads
  uint64_t background_rounds;     // rounds of the purge thread
  uint64_t limit_purges;          // times that growth had to give memory back first because of a limit
  uint64_t limit_refusals;        // times that growth was refused because of HAKMEM_MEMORY_LIMIT_MB
  // From version 3 on. Guards (OBSERVE and HARDENED):
  uint64_t guard_pages;         // guard pages of slabs that are up now
  uint64_t quarantined_blocks;  // freed blocks that may not be used again yet
  uint64_t sampled_blocks;      // small blocks so far that got guard pages of their own
  // From version 4 on. Waiting (OBSERVE; 0 elsewhere):
  uint64_t long_lock_waits;       // times that a thread waited for a lock of the allocator for a millisecond or more
  uint64_t longest_lock_wait_us;  // and the longest such wait, in microseconds
} hak_stats;

// Fills `*stats`; set stats->version first. Returns 0, or EINVAL for NULL or a version of 0. Exact when no other thread
// is inside the allocator, the purge thread of HAKMEM_BACKGROUND included; otherwise figures are of several moments
// during the call, and a block on its way between a cache and its slab may count as live or as cached twice. Takes time
// in proportion to the number of slabs.
HAK_EXPORT int hak_stats_get(hak_stats *stats) HAK_NOEXCEPT;

// The value of a gate (an environment variable of docs/ENV.md, "HAKMEM_PROFILE" for instance) as text, as it holds now.
// `*origin`, unless `origin` is NULL: where it came from, "default", "preset", "//configs:conf", "hak_conf",
// "environment", "hak_config_set" or "fixed in this build". Both are static strings. NULL, and *origin untouched, for a
// name that is no gate. Thread-safe; of a gate that another thread changes meanwhile, the two may be of two moments.
HAK_EXPORT const char *hak_config_get(const char *name, const char **origin) HAK_NOEXCEPT;

// Gives a gate another value while the program runs; it beats every other source. `name` and `value` are written as in
// the environment. HAKMEM_PROFILE gives its values to all gates that may change and that nobody set by themselves. What
// the allocator decides from now on is decided by the new value; what it keeps already it gives back on the way of
// later calls, or when hak_trim says so. The purge thread of HAKMEM_BACKGROUND starts at once, and ends within half a
// second.
//
// Returns 0, or, with nothing changed: EINVAL for NULL, for no gate, for a value that the gate does not accept or a
// memory limit that the process is beyond already; EPERM for a gate that is read at the start only (docs/ENV.md says
// which), and for every gate in FAST builds; ENOMEM. errno stays as it was. Thread-safe. Not from a signal handler.
HAK_EXPORT int hak_config_set(const char *name, const char *value) HAK_NOEXCEPT;

// Checks every record of the shared heap, of the pool of slabs, of the large blocks, and of the calling thread's heap.
// Returns true when all invariants hold; otherwise writes one line for the first that does not to stderr and returns
// false.
HAK_EXPORT bool hak_heap_verify(void) HAK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // HAKMEM_HAKMEM_H_
