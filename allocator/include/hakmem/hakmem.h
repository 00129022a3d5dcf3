// SPDX-License-Identifier: Apache-2.0
//
// hakmem: a general-purpose memory allocator for Linux (x86-64, aarch64).
//
// This is the whole public interface. It can be used from C (C11 or later) and C++ (C++11 or later).
//
// Common rules, unless a function says otherwise:
//   * Sizes and alignments are in bytes. Every block is aligned to at least 16 bytes.
//   * A request over PTRDIFF_MAX bytes fails: NULL and errno = ENOMEM.
//   * When memory runs out the result is NULL and errno = ENOMEM; the caller's blocks are unchanged.
//   * Successful calls, and all functions that free, preserve errno.
//   * Every function is thread-safe; any thread may free a block, whichever thread allocated it. No function is
//     async-signal-safe.
//   * A block from one hak_* function may be passed to any other. Where hakmem also overrides the C library's malloc,
//     blocks may be passed between hak_* functions and free(), realloc() and the rest, in both directions.
//   * Misuse (passing a pointer that is not a live block) ends the process with one line on stderr,
//     "hakmem: <what>: <pointer>", and SIGABRT. Behind the pointer the line has what a block of its size class takes,
//     if it is known, the program and its process, and the thread unless it is the first one:
//     "hakmem: double free: 0x7f41c2fd0f40 (48-byte block) in server[4711], thread 4712".
//     README.md says which build profile notices which misuse, and when.
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

// ---- Allocation: the C library's functions under other names ------------------------------------

// Returns a block of at least `size` bytes with undefined contents. `size` 0 gives a unique block, which must be freed
// like any other (C17 7.22.3.4).
HAK_EXPORT void *hak_malloc(size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(1);

// Returns a block for `count` objects of `size` bytes each, all bits zero. Fails with ENOMEM also when the product
// overflows (C17 7.22.3.2).
HAK_EXPORT void *hak_calloc(size_t count, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE2(1, 2);

// The same as hak_calloc(1, size).
HAK_EXPORT void *hak_zalloc(size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(1);

// Changes the size of the block `ptr`, moving it if necessary, and preserves the first min(old, new) bytes. With `ptr`
// NULL it is hak_malloc(size). With a block and `size` 0 it frees the block and returns NULL, like the GNU C library.
// When it returns NULL for any other size, the old block is still live and unchanged (C17 7.22.3.5).
HAK_EXPORT void *hak_realloc(void *ptr, size_t size) HAK_NOEXCEPT __attribute__((warn_unused_result)) HAK_ATTR_SIZE(2);

// The same as hak_realloc(ptr, count * size), but fails with ENOMEM and leaves the old block unchanged when the product
// overflows (POSIX.1-2024).
HAK_EXPORT void *hak_reallocarray(void *ptr, size_t count, size_t size) HAK_NOEXCEPT __attribute__((warn_unused_result))
HAK_ATTR_SIZE2(2, 3);

// Frees `ptr`, a live block or NULL.
HAK_EXPORT void hak_free(void *ptr) HAK_NOEXCEPT;

// Frees `ptr`: NULL, or a live block that malloc, calloc or realloc returned for a request of `size` bytes
// (C23 7.24.3.4). OBSERVE and HARDENED builds check the size.
HAK_EXPORT void hak_free_sized(void *ptr, size_t size) HAK_NOEXCEPT;

// Frees `ptr`: NULL, or a live block that aligned_alloc, hak_aligned_calloc or hak_aligned_realloc returned for
// `alignment` and `size` (C23 7.24.3.5). OBSERVE and HARDENED builds check both.
HAK_EXPORT void hak_free_aligned_sized(void *ptr, size_t alignment, size_t size) HAK_NOEXCEPT;

// Returns a block of `size` bytes at a multiple of `alignment`, which must be a power of two; `size` need not be a
// multiple of it. Any other alignment gives NULL and EINVAL (C17 7.22.3.1).
HAK_EXPORT void *hak_aligned_alloc(size_t alignment, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(2)
    HAK_ATTR_ALIGN(1);

// Returns a block for `count` objects of `size` bytes each at a multiple of `alignment`, all bits zero. Fails with
// ENOMEM also when the product overflows, and with EINVAL for an alignment that is not a power of two.
HAK_EXPORT void *hak_aligned_calloc(size_t alignment, size_t count, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC
    HAK_ATTR_SIZE2(2, 3) HAK_ATTR_ALIGN(1);

// Like hak_realloc, and the block is then at a multiple of `alignment`, whatever alignment it had before; a block that
// already is there moves only if it must. With `ptr` NULL it is hak_aligned_alloc(alignment, size). For an alignment
// that is not a power of two it returns NULL with EINVAL, and the old block is still live and unchanged, also when
// `size` is 0.
HAK_EXPORT void *hak_aligned_realloc(void *ptr, size_t alignment, size_t size) HAK_NOEXCEPT
    __attribute__((warn_unused_result)) HAK_ATTR_SIZE(3) HAK_ATTR_ALIGN(2);

// Like hak_aligned_alloc, but rounds an alignment that is not a power of two up to the next one, like the GNU C
// library.
HAK_EXPORT void *hak_memalign(size_t alignment, size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(2);

// Stores a block of `size` bytes at a multiple of `alignment` in `*out` and returns 0. Returns EINVAL when `alignment`
// is not a power of two and a multiple of sizeof(void *), or ENOMEM when memory runs out, and then leaves `*out`
// unchanged. errno is never changed (POSIX.1-2024).
HAK_EXPORT int hak_posix_memalign(void **out, size_t alignment, size_t size) HAK_NOEXCEPT;

// ---- Sizes --------------------------------------------------------------------------------------

// Returns how many bytes of the live block `ptr` may be used: at least the requested size, and the same for as long as
// the block is live. Returns 0 for NULL.
HAK_EXPORT size_t hak_usable_size(const void *ptr) HAK_NOEXCEPT;

// Returns the usable size of the size class that serves a request of `size` bytes; requesting that size wastes nothing.
// hak_malloc(size) returns a block of at least that usable size. In OBSERVE and HARDENED builds a block's usable size
// is the requested size, so this returns `size`. Returns 0 when `size` is over PTRDIFF_MAX.
HAK_EXPORT size_t hak_good_size(size_t size) HAK_NOEXCEPT;

// Resizes the live block `ptr` to `size` bytes without moving it. Returns `ptr`, or NULL when the block would have to
// move; it is then unchanged, and so is errno. A large block may grow or shrink. A small block never changes its usable
// size: for it the call only reports whether `size` fits.
HAK_EXPORT void *hak_realloc_in_place(void *ptr, size_t size) HAK_NOEXCEPT;

// ---- Ownership ----------------------------------------------------------------------------------

// Tells blocks of hakmem from other addresses, for programs that have several allocators: whether a block of hakmem can
// begin at `ptr`. `ptr` may be any value; the call never reads or writes the memory there, and never ends the process.
//   * true for every live block, whichever thread allocated it.
//   * false for NULL, for an address inside a block, and for every address that is not hakmem's.
//   * A block over 32 KiB gives false as soon as it is freed; HARDENED builds: so does a block of size 0.
//   * A smaller block may still give true after it is freed, and so may a place for a block that was never handed out,
//     for as long as hakmem keeps the 64 KiB around it for blocks of that size. So true does not prove that a block is
//     live.
// If another thread allocates or frees the block meanwhile, the answer may be that of before or after. The call takes
// about as long as a small allocation and needs no lock, except at addresses that are less than 1 GiB from a large
// block; and, in OBSERVE and HARDENED builds, at all that are not small blocks.
HAK_EXPORT bool hak_owns(const void *ptr) HAK_NOEXCEPT;

// ---- Returning memory to the system -------------------------------------------------------------

// Returns the blocks in the calling thread's cache to their slabs, where other threads can reuse them, and from where
// their memory can be returned to the operating system.
HAK_EXPORT void hak_thread_flush(void) HAK_NOEXCEPT;

// Calls hak_thread_flush. Then takes the blocks out of the caches of other threads, except for the latest block of each
// size class (nothing if the kernel has no membarrier), and collects the remote frees that wait in their slabs. Finally
// returns to the operating system, at once: free slabs, except for at most `keep_bytes` of them; the memory of freed
// large blocks; and the free pages of partly used slabs, the calling thread's own only when `keep_bytes` is 0. Returns
// the number of bytes returned, without the pages of other threads' partly used slabs.
HAK_EXPORT size_t hak_trim(size_t keep_bytes) HAK_NOEXCEPT;

// ---- Memory pressure ----------------------------------------------------------------------------

// Why the callback of hak_pressure_set is called.
#define HAK_PRESSURE_NEAR 1     // the request takes the process beyond 7/8 of a limit, though free memory was returned
#define HAK_PRESSURE_REFUSED 2  // there is no memory for the request: a limit, or the system, refused it

typedef struct hak_pressure {
  uint32_t reason;
  size_t request_bytes;      // what was requested; of a small block, what its size class gives
  uint64_t limit_bytes;      // the lower one of HAKMEM_MEMORY_LIMIT_MB and of the control group's; 0: there is none
  uint64_t committed_bytes;  // as in hak_stats, to within what threads request at this moment
} hak_pressure;

// Has callback(pressure, context) called when memory is short, so that the program can free some, or stop taking more.
// It replaces the callback before it; NULL: none. Returns 0, or ENOTSUP in FAST builds, which have no limit.
//
// The callback runs in the thread that allocates, within its call, which tries again afterwards: after
// HAK_PRESSURE_REFUSED it fails only if there is still no memory. So the thread may hold locks of the program: the
// callback must not wait for a lock under which the program allocates. hakmem holds no lock: the callback may allocate,
// free and call every function of hakmem. It must not throw or jump out of the call. It may change errno.
//
// At most one call runs in the process, and none within it: what happens meanwhile, in any thread, is not reported.
// Near a limit it is called again after each further 32nd of 7/8 of the limit, and at every request that fails. It is
// not called in fork handlers of a process with threads. Thread-safe; a call of the old callback may still run when
// this returns, unless it is called from the callback. The child of a fork keeps the callback.
HAK_EXPORT int hak_pressure_set(void (*callback)(const hak_pressure *pressure, void *context),
                                void *context) HAK_NOEXCEPT;

// ---- Moving blocks, to return more --------------------------------------------------------------

// After a peak, a few live blocks may keep each 64 KiB of small blocks (a slab) in memory. A program that knows all
// pointers to its blocks, such as a cache, can move them:
//
//   hak_should_move(blocks, count, move);
//   for each block with move[i]: copy it to a block of hak_malloc_nocache, change the pointers, hak_free_nocache it
//
// a few blocks at a time, and over all its blocks again until hardly any answer is true. Call hak_thread_flush first,
// because cached blocks count as live. The memory is returned like that of other freed blocks, at the deadline or by
// hak_trim.
//
// Stores in move[i] whether it helps to move blocks[i], for 0 <= i < count, and returns how many answers are true. A
// block is a live block or NULL, as for hak_usable_size. An answer is true if the slab has a larger part free than the
// average of its size class, more than an eighth, other free blocks suffice for all its blocks, and it is not the slab
// that gives the calling thread its next block. It is false for NULL and for blocks over 32 KiB, whose memory returns
// when they are freed.
//
// Takes constant time for each block, and allocates nothing. It holds a lock for at most 64 blocks at a time, which
// only the reclaim of this thread's memory waits for. The answers hold at this moment; each move may change them. If
// several threads move blocks, they work against each other: let one thread ask and move.
HAK_EXPORT size_t hak_should_move(void *const *blocks, size_t count, bool *move) HAK_NOEXCEPT;

// hak_malloc and hak_free without the thread's cache: the block comes from the fullest slab that has room, and returns
// to its slab at once. They are as slow as calls that the cache cannot serve. Blocks over 32 KiB are as with hak_malloc
// and hak_free. HARDENED builds choose the block at random among some of the fullest slabs, as for hak_malloc, and a
// freed block returns after it has been in the quarantine, so memory returns later.
HAK_EXPORT void *hak_malloc_nocache(size_t size) HAK_NOEXCEPT HAK_ATTR_MALLOC HAK_ATTR_SIZE(1);
HAK_EXPORT void hak_free_nocache(void *ptr) HAK_NOEXCEPT;

// ---- Where messages go --------------------------------------------------------------------------

// Gets one message of hakmem: a line of `length` bytes, at most 512, with its newline and without a NUL.
typedef void (*hak_output)(const char *text, size_t length);

// Has hakmem's messages given to the function instead of written to stderr; NULL: stderr, as at the start. Returns the
// function before. It is called in any thread, also in a signal handler, while hakmem holds locks, with a damaged heap,
// and as the last thing before misuse ends the process: it must be async-signal-safe (signal-safety(7)), and must call
// nothing of hakmem, nor wait for a thread that allocates. Messages from before main (mistakes in settings) go to
// stderr, unless a constructor sets the function. Thread-safe; a call of the old function may still run when this
// returns. Preserves errno.
HAK_EXPORT hak_output hak_set_output(hak_output output) HAK_NOEXCEPT;

// ---- Settings of a program ----------------------------------------------------------------------

// Settings compiled into a program. The library defines hak_conf as NULL and weak; a program defines its own:
//
//   const char *hak_conf = "profile=lean,thread_cache_kb=512";
//
// Items are NAME=value, separated by commas or white space. Names and values are those of docs/ENV.md; the name may
// omit HAKMEM_ and is not case-sensitive. If a name occurs twice, the last item counts. The text may have at most 4,096
// bytes. The environment overrides hak_conf; hak_conf overrides //configs:conf and the presets. hakmem reports an item
// that it does not accept on stderr, with what it does accept, and ignores that item only; with conf_strict=1 the
// process ends at it, with status 1. A process with raised privileges obeys hak_conf too. FAST builds do not read it.
//
// hakmem reads hak_conf once, when the process starts, before main and before most constructors. So initialise it with
// a string literal, in the executable itself, in C or inside extern "C". If the allocator is a shared library that the
// program is not linked with (LD_PRELOAD), link the program with -rdynamic or -Wl,--export-dynamic-symbol=hak_conf.
HAK_EXPORT extern const char *hak_conf;

// ---- Version, statistics, settings, verification ------------------------------------------------

// Returns the version of the library in use, "MAJOR.MINOR.PATCH PROFILE header=MODE", for example
// "0.1.0 standard header=none". The string is static.
HAK_EXPORT const char *hak_version(void) HAK_NOEXCEPT;

#define HAK_STATS_VERSION 4

// Statistics of the process, in bytes unless the name says otherwise. New versions only add fields at the end and raise
// `version`; the library fills in the fields that both it and the caller know.
typedef struct hak_stats {
  uint32_t version;            // set by the caller to HAK_STATS_VERSION; the library lowers it to what it filled in
  uint32_t threads;            // threads that have a heap now
  uint64_t live_blocks;        // blocks that are allocated and not freed
  uint64_t live_bytes;         // the sum of their usable sizes
  uint64_t cached_blocks;      // freed small blocks in thread caches
  uint64_t cached_bytes;       // their bytes
  uint64_t mapped_bytes;       // address space mapped for blocks and for the allocator's records
  uint64_t committed_bytes;    // the part of mapped_bytes that may be resident: in use, or free and not yet returned
  uint64_t peak_mapped_bytes;  // the highest value of mapped_bytes so far
  uint64_t metadata_bytes;     // the part of mapped_bytes that holds records rather than blocks
  uint64_t superslabs;         // 2 MiB regions mapped now
  uint64_t slabs_used;         // 64 KiB slabs in use for small blocks
  uint64_t slabs_free;         // 64 KiB slabs that are free
  uint64_t large_blocks;       // live blocks over the largest size class; included in live_blocks
  uint64_t large_bytes;        // their usable bytes; included in live_bytes
  uint64_t refills;            // times a thread's cache ran empty (0 in FAST)
  uint64_t flushes;            // times a thread's cache ran full (0 in FAST)
  uint64_t remote_batches;     // batches of remote frees pushed to other threads' slabs (0 in FAST)
  uint64_t slabs_adopted;      // slabs of ended or idle threads that other threads adopted
  uint64_t decommitted_bytes;  // bytes returned to the operating system by decommit so far
  uint64_t os_calls;           // memory system calls made so far
  // From version 2 on. Free memory, and how it was returned:
  uint64_t heap_free_bytes;       // bytes of free blocks in slabs that threads own
  uint64_t pool_free_bytes;       // bytes of free slabs that may be resident
  uint64_t purged_bytes;          // bytes of free pages in partly used slabs, returned and not reused since
  uint64_t decommits;             // successful calls that returned pages
  uint64_t lazy_bytes;            // bytes that the kernel may take when it needs them (MADV_FREE, LEAN's FREE)
  uint64_t deadline_releases;     // superslabs whose free memory was returned at the deadline
  uint64_t deadline_bytes;        // the bytes of these
  uint64_t lean_decommits;        // slabs that LEAN or a soft limit decommitted as soon as they were free
  uint64_t lean_bytes;            // the bytes of these
  uint64_t superslabs_unmapped;   // superslabs returned to the system with their addresses
  uint64_t superslabs_prewarmed;  // superslabs populated at the start
  uint64_t prewarm_skipped;       // superslabs not populated because LEAN suppressed the prewarm
  uint64_t idle_blocks_taken;     // blocks taken out of the caches of idle threads
  uint64_t background_rounds;     // rounds of work of the purge thread
  uint64_t limit_purges;          // times that a limit made hakmem return memory before it grew
  uint64_t limit_refusals;        // times that HAKMEM_MEMORY_LIMIT_MB refused growth
  // From version 3 on. Guards (OBSERVE and HARDENED):
  uint64_t guard_pages;         // guard pages of slabs now
  uint64_t quarantined_blocks;  // freed blocks that may not be reused yet
  uint64_t sampled_blocks;      // small blocks that got guard pages of their own so far
  // From version 4 on. Lock waits (OBSERVE; 0 elsewhere):
  uint64_t long_lock_waits;       // waits of a millisecond or more for a lock of the allocator
  uint64_t longest_lock_wait_us;  // the longest of these, in microseconds
} hak_stats;

// Fills in `*stats`; set stats->version first. Returns 0, or EINVAL for NULL or for version 0. The statistics are exact
// when no other thread (nor the purge thread of HAKMEM_BACKGROUND) is inside the allocator. Otherwise they are taken at
// different moments during the call, and a block in transit between a cache and its slab may count as live or be
// counted twice as cached. The call takes time proportional to the number of slabs.
HAK_EXPORT int hak_stats_get(hak_stats *stats) HAK_NOEXCEPT;

// Writes the statistics as JSON (RFC 8259) into `buffer`, also by size class and by size of large blocks. Writes at
// most `size` bytes, the last of which is a NUL, and returns the length of the whole text without the NUL, as snprintf
// does: a result of `size` or more means that the end is missing. A buffer of HAK_STATS_TEXT_BYTES has room for every
// text. `buffer` may be NULL if `size` is 0. The object has these members; new ones may be added:
//
//   version  1
//   build    hak_version()
//   process  the fields of hak_stats from `threads` on; resident_bytes, of the whole process (null if /proc cannot be
//            read); empty_blocks, live blocks of size 0 that have no class (HARDENED)
//   limits   memory_bytes (HAKMEM_MEMORY_LIMIT_MB), control_group_bytes, and purge_at_bytes, the committed bytes beyond
//            which free memory is returned before growth; null if there is no limit
//   classes  for each size class block_bytes, the usable bytes of a block; slabs, of 64 KiB; and the blocks, each
//            counted once: live_blocks; cached_blocks, freed and in thread caches or in quarantine; remote_blocks,
//            freed by other threads and on the way to their slabs; free_blocks in their slabs; fresh_blocks, never
//            handed out
//   large    live blocks without a class by their usable size: up_to_bytes (null for the last range), blocks, bytes
//
// live_blocks of all classes, blocks of all ranges and empty_blocks make the live_blocks of the process; likewise
// cached_blocks, and slabs are slabs_used. When other threads are inside the allocator, this holds as hak_stats_get
// says.
//
// Thread-safe, allocates nothing, and needs 16 KiB of stack. It opens /proc/self/statm. It takes the time of
// hak_stats_get, and time proportional to the number of large blocks, during which others cannot allocate or free such
// blocks outside their caches.
HAK_EXPORT size_t hak_stats_json(char *buffer, size_t size) HAK_NOEXCEPT;

// The same in the text exposition format of Prometheus, version 0.0.4, for a service to answer a scrape with (content
// type "text/plain; version=0.0.4"). The names begin with hakmem_; counters end in _total, amounts of memory in _bytes,
// and longest_lock_wait_us is in seconds. hakmem_build_info has the version as its label. The metrics of size classes
// (hakmem_class_live_blocks{block_bytes="48"}) have samples for the classes that have slabs, and those of limits if
// there is a limit. docs/DASHBOARD.json shows them in Grafana.
HAK_EXPORT size_t hak_stats_prometheus(char *buffer, size_t size) HAK_NOEXCEPT;

// Bytes that the texts of hak_stats_json and hak_stats_prometheus never exceed, with the NUL.
#define HAK_STATS_TEXT_BYTES 65536

// Returns the current value of a setting (an environment variable of docs/ENV.md, for example "HAKMEM_PROFILE") as
// text: a number in the setting's unit, a switch as "0" or "1". Unless `origin` is NULL, stores the source of the value
// in `*origin`: "default", "preset", "//configs:conf", "hak_conf", "environment", "hak_config_set" or "fixed in this
// build". Both strings are static. For an unknown name it returns NULL and leaves `*origin` unchanged. Thread-safe; if
// another thread changes the setting during the call, value and origin may be from different moments.
HAK_EXPORT const char *hak_config_get(const char *name, const char **origin) HAK_NOEXCEPT;

// Changes a setting at run time; this overrides every other source. `name` and `value` are written as in the
// environment. Setting HAKMEM_PROFILE changes every changeable setting that has no explicit value of its own. The
// allocator's later decisions use the new value. Memory that it already keeps is returned during later calls, or by
// hak_trim; what is free beyond a new HAKMEM_SOFT_LIMIT_MB, at once. The purge thread of HAKMEM_BACKGROUND starts at
// once, and ends within half a second.
//
// Returns 0, or an error with nothing changed: EINVAL for NULL, for an unknown name, for a value that the setting does
// not accept, and for a memory limit below what the process already uses; EPERM for a setting that is read only at the
// start (docs/ENV.md says which), and for every setting in FAST builds; ENOMEM. errno is preserved. Thread-safe; must
// not be called from a signal handler.
HAK_EXPORT int hak_config_set(const char *name, const char *value) HAK_NOEXCEPT;

// Checks the invariants of every record of the orphanage (the slabs of ended threads), of the slab pool, of the large
// blocks, and of the calling thread's heap. Returns true when all hold; otherwise writes one line about the first
// violation to stderr and returns false.
HAK_EXPORT bool hak_heap_verify(void) HAK_NOEXCEPT;

// A live block, as hak_heap_visit shows it.
typedef struct hak_block {
  void *address;
  size_t usable_size;  // as hak_usable_size says
  size_t class_size;   // bytes of each block of its size class; 0: the block has none, because it is large, has guard
                       // pages of its own, or, in HARDENED builds, is of size 0
} hak_block;

// Calls visit(block, context) for each live block of the process: small blocks first, then large ones. Stops when it
// returns false. Returns how many blocks it was called for. Freed blocks that wait in thread caches or in the
// quarantine are not live.
//
// While no other thread is inside the allocator, each live block is visited exactly once and no other. Otherwise this
// still holds for each block that is live during the whole call and that nobody resizes. Blocks that other threads
// allocate, free or resize meanwhile may be visited or not, and so may freed ones that move between caches at that
// moment.
//
// No lock is held while `visit` runs. It may use the allocator; the same then holds for the blocks that it allocates
// and frees. It must not read a block that another thread may free, and must not throw. The call itself allocates
// nothing. It takes time for each 64 KiB of small blocks and each thread, during which allocations of other threads
// that need more than their caches wait; and for each batch of 64 large blocks a look at all of them.
HAK_EXPORT size_t hak_heap_visit(bool (*visit)(const hak_block *block, void *context), void *context) HAK_NOEXCEPT;

// ---- Sampling: which code holds memory, and which allocates it ----------------------------------

// While HAKMEM_PROF is on, allocations are sampled: every byte with the same small chance, so that a block is sampled
// with the probability 1 - e^(-size / HAKMEM_PROF_SAMPLE_KB), and stands for the reciprocal of that in blocks. The sum
// of these weights over any set of samples, by stack, say, is an unbiased estimate of the number of blocks, or bytes,
// in the set. With HAKMEM_PROF_SAMPLE_KB=0 every block is sampled and counts once. FAST builds have no sampling: the
// functions return ENOTSUP.

// A sampled block that is live.
typedef struct hak_prof_sample {
  void *address;
  size_t size;            // in bytes, as requested; after a resize in place the size then requested, if it is large
  double weight_bytes;    // the bytes of all blocks that this sample stands for
  double weight_objects;  // their number
  uint32_t frames;        // of its stack; 0: there was no memory to keep it, or too many stacks were seen
  void *const *frame;     // return addresses, the innermost first: each is behind a call. At most 128. The array stays
                          // as it is for as long as the process lives
  uint64_t when_ns;       // when it was allocated, by CLOCK_MONOTONIC, in nanoseconds; of the precision of microseconds
  unsigned thread;        // the thread that allocated it (gettid(2))
} hak_prof_sample;

// What was allocated at one stack since the first sample. All are estimates.
typedef struct hak_prof_stack {
  uint32_t frames;  // as in hak_prof_sample
  void *const *frame;
  double alloc_objects;  // blocks allocated so far
  double alloc_bytes;    // their requested bytes
  double inuse_objects;  // those of them that are live
  double inuse_bytes;
} hak_prof_stack;

// Switches HAKMEM_PROF on or off, like hak_config_set. Other threads are counted from their next frees or their next
// slow calls on. Samples that were taken stay; the frees of sampled blocks are noticed also while it is off. Returns 0,
// or ENOTSUP in FAST.
HAK_EXPORT int hak_prof_start(void) HAK_NOEXCEPT;
HAK_EXPORT int hak_prof_stop(void) HAK_NOEXCEPT;

// Calls visit(sample, argument) for each sampled block that is live. What `sample` points to is valid during the call.
// A block that is allocated or freed meanwhile may be visited or not. Returns 0 after the last one, or at once what
// `visit` returned if that is not 0; EINVAL for a NULL `visit`; ENOTSUP.
//
// No lock is held while `visit` runs: it may call any function of hakmem, this one too, and may wait for other threads.
// (The samples are copied some dozens at a time, under a lock that is only held for that.)
HAK_EXPORT int hak_prof_visit_live(int (*visit)(const hak_prof_sample *sample, void *argument),
                                   void *argument) HAK_NOEXCEPT;

// The same for each stack at which a block was sampled. Stacks are never removed; at most 65,536 are told apart, and
// the rest is visited as one stack without frames.
HAK_EXPORT int hak_prof_visit_stacks(int (*visit)(const hak_prof_stack *stack, void *argument),
                                     void *argument) HAK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // HAKMEM_HAKMEM_H_
