// SPDX-License-Identifier: Apache-2.0
//
// Superslabs, slabs and their blocks.
//
// A superslab is 2 MiB at a multiple of 2 MiB. Its head holds the descriptors of its 32 slabs of 64 KiB. Slab 0 begins
// with the head and offers only the rest of its 64 KiB.
//
// In HARDENED a slab's last page is a guard page, which nobody can touch, and so is the head. The descriptors are
// elsewhere (superslab_records.h).
//
// Blocks are laid out from the slab's end: block i occupies the `stride` bytes that end i * stride before it. So the
// index of a block, and the check that a pointer is the start of a block, need only the class, in slab 0 too. If the
// stride is a multiple of an alignment, all blocks have that alignment. Blocks are carved from the lowest address up,
// index capacity - 1 first, and memory that was not carved is never touched.
#ifndef HAKMEM_SLAB_SLAB_H_
#define HAKMEM_SLAB_SLAB_H_

#include "allocator/block/size_class.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/slab/slab_map.h"

HAK_C_BEGIN

struct hak_heap;

#define HAK_SLAB_BLOCKS_MAX (HAK_SLAB_SIZE / HAK_MIN_ALIGN)
// Words of a bitmap that fits into the descriptor: enough for strides of 128 bytes and more. The bitmap of smaller
// blocks is elsewhere.
#define HAK_SLAB_INLINE_WORDS 8u

// Which of its heap's lists a slab is on, by how many free blocks it has. A refill takes from the fullest slab first.
enum hak_slab_list {
  HAK_LIST_SCARCE,  // at most an eighth is free
  HAK_LIST_SOME,    // at most a quarter
  HAK_LIST_MANY,    // at most a half
  HAK_LIST_MOST,    // more
  HAK_LIST_CARVE,   // not carved to the end: the last resort, because it means touching fresh memory
  HAK_LIST_FULL,    // no free block
  HAK_LIST_COUNT,
};

// Descriptor of a slab in use for small blocks, or of a free slab.
//
// "Owner" is the thread of the heap that `owner` names, or the holder of the orphanage lock for slabs of the orphanage.
// Free slabs belong to the pool and its lock. Invariants of a slab of small blocks: carved <= capacity; free_count is
// the number of set bits of `free`; bits at or above `capacity` and bits of blocks not yet carved are clear; free_count
// + blocks on the remote chain + blocks in thread caches + live blocks == carved; every block in a page of `purged` is
// free or not carved; the slab is on the list that hak_slab_list_for names, in the class of its class_id.
struct hak_slab {
  // Line 0: the owner's alone.
  struct hak_slab *next;            // on the heap's list
  struct hak_slab *prev;            // on the heap's list
  HAK_ATOMIC(uint32_t) free_count;  // owner writes; statistics read (relaxed: a statistic, no order)
  HAK_ATOMIC(uint32_t) carved;      // as free_count
  uint32_t capacity;                // constant while in use
  uint32_t stride;                  // constant while in use
  uint32_t reciprocal;              // constant while in use
  uint32_t first_word;              // no bit is set in a lower word of `free`
  uint64_t *free;                   // bitmap: block i is free in the slab; the pointer is constant while in use
  uint8_t class_id;                 // constant while in use; HAK_CLASS_NONE: free slab
  uint8_t index;                    // number in its superslab, constant
  uint8_t list;                     // enum hak_slab_list
  uint8_t zeroed;                   // memory that is not carved yet reads as zero
  uint32_t seen_ms;                 // when free_count was first seen to be seen_free, the low 32 bits
  uint16_t seen_free;
  uint16_t purged;  // bit i: page i of the slab holds no memory

  // Line 1: shared. `owner` says who may touch line 0. Changed under the orphanage lock or the pool lock (release),
  // read by any thread that holds a block of the slab (acquire). NULL: the pool.
  HAK_ALIGNAS(HAK_CACHE_LINE) HAK_ATOMIC(struct hak_heap *) owner;
  // Blocks freed by other threads: (count << 32) | (index of the first + 1), linked by tiny_nextptr. Pushed by
  // compare-and-swap (release), taken whole by the owner (acquire and release). Goes from 0 to non-zero only together
  // with one notice to the owner, and the owner takes it only on that notice. So a slab is on at most one pending list,
  // and never freed while on one.
  HAK_ATOMIC(uint64_t) remote;
  struct hak_slab *pending_next;  // written by the notifier before it publishes the slab, read by the drainer

  // Line 2: what `free` points at if the bitmap fits; otherwise `free` points at a record (meta/meta.h). Blocks cannot
  // overflow into either. The owner's alone.
  HAK_ALIGNAS(HAK_CACHE_LINE) uint64_t inline_free[HAK_SLAB_INLINE_WORDS];
};
static_assert(sizeof(struct hak_slab) == (size_t)3 * HAK_CACHE_LINE, "the owner's line, the shared one, the bitmap");
static_assert(offsetof(struct hak_slab, owner) == HAK_CACHE_LINE, "owner and remote threads use different lines");

struct hak_superslab {
  // All under the pool lock.
  struct hak_superslab *next;  // on the pool's list for its number of free slabs
  struct hak_superslab *prev;
  struct hak_superslab *purge_next;  // on the pool's purge queue
  struct hak_superslab *purge_prev;
  char *memory;           // the superslab's first byte; NULL when this record is in the superslab's head. Constant
  uint64_t dirty_since;   // when it was put on the purge queue, in milliseconds
  uint32_t free_mask;     // bit i: slab i is free
  uint32_t dirty_mask;    // bit i: slab i may hold something other than zero
  uint32_t lazy_mask;     // bit i: slab i is free and dirty, and the kernel may take its memory when it needs it
  uint32_t transit_mask;  // bit i: slab i is neither free nor in use: its memory is being returned (slab_release.c)
  uint32_t guard_mask;    // HARDENED. Bit i: the guard page at the end of slab i is up
  bool head_guarded;      // HARDENED. The guard in front of the first block is up
  bool queued;            // on the purge queue (slab_pool_state.h)
  bool filling;           // in huge pages, and no slab of it was returned yet
  // In huge pages, and no part of it was returned to the system (ground_choice.h). Also read without the lock (relaxed:
  // a hint).
  HAK_ATOMIC(bool) huge;
  uint8_t epoch;  // constant; of hak_pool when the superslab was mapped
  HAK_ALIGNAS(256) struct hak_slab slabs[HAK_SLABS_PER_SUPERSLAB];
};
// Bytes at the superslab's start that hold records. The first block lies behind them, and behind a guard page.
#define HAK_SUPERSLAB_RECORDS \
  (HAK_HARDENED ? hak_round_up(sizeof(struct hak_superslab), 4096) : sizeof(struct hak_superslab))
#define HAK_SUPERSLAB_HEAD (HAK_SUPERSLAB_RECORDS + HAK_SLAB_GUARD)
static_assert(sizeof(struct hak_superslab) < HAK_SLAB_SIZE / 2, "slab 0 keeps most of its room");
static_assert(sizeof(struct hak_superslab) % HAK_CACHE_LINE == 0, "blocks of slab 0 begin on a line of their own");

// Where the records of the superslab at each multiple of 2 MiB of the slab map's window are. In the head: if this is
// NULL, if the entry is NULL, and outside the window. An entry is written under the pool's lock, before the first block
// is handed out and after the last one was freed, so a thread that holds a block reads it with a plain load. Set once,
// by hak_superslab_records_init.
extern struct hak_superslab *const *hak_superslab_table;

// The superslab of an address in one of its slabs.
HAK_INLINE struct hak_superslab *hak_superslab_of(const void *address) {
  if (HAK_HARDENED && HAK_LIKELY(hak_superslab_table != NULL)) {
    const uintptr_t granule = hak_slab_map_granule(address);
    if (HAK_LIKELY(hak_slab_map_covers(granule))) {
      struct hak_superslab *const apart = hak_superslab_table[granule / HAK_SLABS_PER_SUPERSLAB];
      if (HAK_LIKELY(apart != NULL)) return apart;
    }
  }
  return (struct hak_superslab *)((uintptr_t)address & ~(HAK_SUPERSLAB_SIZE - 1));
}
// The superslab of a descriptor.
HAK_INLINE struct hak_superslab *hak_superslab_of_slab(const struct hak_slab *slab) {
  if (HAK_HARDENED) {
    return (struct hak_superslab *)((uintptr_t)(slab - slab->index) - offsetof(struct hak_superslab, slabs));
  }
  return (struct hak_superslab *)((uintptr_t)slab & ~(HAK_SUPERSLAB_SIZE - 1));
}
HAK_INLINE bool hak_superslab_is_apart(const struct hak_superslab *ss) { return HAK_HARDENED && ss->memory != NULL; }
// The superslab's first byte.
HAK_INLINE char *hak_superslab_memory(const struct hak_superslab *ss) {
  return hak_superslab_is_apart(ss) ? ss->memory : (char *)(uintptr_t)ss;
}

HAK_INLINE struct hak_slab *hak_slab_of(const void *address) {
  return &hak_superslab_of(address)->slabs[((uintptr_t)address >> HAK_SLAB_SHIFT) & (HAK_SLABS_PER_SUPERSLAB - 1)];
}

// The slab's first byte.
HAK_INLINE char *hak_slab_start(const struct hak_slab *slab) {
  return hak_superslab_memory(hak_superslab_of_slab(slab)) + (size_t)slab->index * HAK_SLAB_SIZE;
}
// One past the last byte that a block may use.
HAK_INLINE char *hak_slab_end(const struct hak_slab *slab) { return hak_slab_start(slab) + HAK_SLAB_ROOM; }
// The first byte that a block may use.
HAK_INLINE char *hak_slab_begin(const struct hak_slab *slab) {
  return hak_slab_start(slab) + (slab->index == 0 ? HAK_SUPERSLAB_HEAD : 0);
}

HAK_INLINE void *hak_slab_block(const struct hak_slab *slab, uint32_t index) {
  return hak_slab_end(slab) - (size_t)(index + 1) * slab->stride;
}

// Bytes from `address` to hak_slab_end: 1 .. 65536. Of an address in the guard: 0, or a number close to 2^32.
HAK_INLINE uint32_t hak_slab_distance(const void *address) {
  return (uint32_t)(HAK_SLAB_ROOM - ((uintptr_t)address & (HAK_SLAB_SIZE - 1)));
}

// Whether a block of the class could begin at `address`. With d = distance <= 2^16 and reciprocal r = ceil(2^32 / s),
// the low 32 bits of d * r are below r exactly when s divides d (s <= 2^15, so d * (r * s - 2^32) < 2^32).
HAK_INLINE bool hak_slab_is_block_start(const void *address, uint32_t reciprocal) {
  const uint32_t distance = hak_slab_distance(address);
  return (HAK_SLAB_GUARD == 0 || distance - 1 < HAK_SLAB_ROOM) && distance * reciprocal < reciprocal;
}

// The same with two steps less, with negated = 0 - reciprocal: without a guard -d is the address with ones above the
// bits of a slab, in 32 bits, and -d * -r = d * r.
HAK_INLINE bool hak_slab_is_block_start_by(const void *address, uint32_t reciprocal, uint32_t negated) {
  if (HAK_SLAB_GUARD != 0) return hak_slab_is_block_start(address, reciprocal);
  return ((uint32_t)(uintptr_t)address | ~(uint32_t)(HAK_SLAB_SIZE - 1)) * negated < reciprocal;
}

// The index of the block that begins at `address`, by the same arithmetic. For another address the result is
// meaningless, but computing it is safe.
HAK_INLINE uint32_t hak_slab_block_index(const struct hak_slab *slab, const void *address) {
  return (uint32_t)(((uint64_t)hak_slab_distance(address) * slab->reciprocal) >> 32) - 1;
}

HAK_INLINE uint32_t hak_slab_free_count(const struct hak_slab *slab) {
  return atomic_load_explicit(&slab->free_count, memory_order_relaxed);
}
HAK_INLINE uint32_t hak_slab_carved(const struct hak_slab *slab) {
  return atomic_load_explicit(&slab->carved, memory_order_relaxed);
}

// Whether block `index` was carved: carving goes from the highest index down.
HAK_INLINE bool hak_slab_was_carved(const struct hak_slab *slab, uint32_t index) {
  return index < slab->capacity && slab->capacity - 1 - index < hak_slab_carved(slab);
}
HAK_INLINE bool hak_slab_bit(const struct hak_slab *slab, uint32_t index) {
  return (slab->free[index / 64] >> (index % 64)) & 1;
}

// Whether the superslab is in huge pages. Also without the pool lock: relaxed, a hint then.
HAK_INLINE bool hak_ground_is_huge(const struct hak_superslab *ss) {
  return atomic_load_explicit(&ss->huge, memory_order_relaxed);
}

// The list that the slab belongs on, by its counts.
enum hak_slab_list hak_slab_list_for(const struct hak_slab *slab);

// Formats a slab that was just taken from the pool for blocks of `class_id`. The caller sets the owner. False: no
// memory for its bitmap.
bool hak_slab_format(struct hak_slab *slab, uint32_t class_id, bool zeroed);
// Frees the bitmap. The slab has no block in use.
void hak_slab_unformat(struct hak_slab *slab);

// Takes up to `want` blocks out of the bitmap into out[]; returns how many. After this call and the next one,
// hak_slab_used_again (slab_purged.h) before the blocks are touched.
uint32_t hak_slab_take_free(struct hak_slab *slab, void **out, uint32_t want);
// Carves up to `want` new blocks into out[], the lowest address last; returns how many.
uint32_t hak_slab_carve(struct hak_slab *slab, void **out, uint32_t want);

// The index of `block`, which was freed. Ends the process when no carved block of the slab begins there.
uint32_t hak_slab_index_of_freed(const struct hak_slab *slab, const void *block);

// Puts a block back into the bitmap. False: the block is free already, and nothing was done.
bool hak_slab_put(struct hak_slab *slab, uint32_t index);

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_H_
