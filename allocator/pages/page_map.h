// SPDX-License-Identifier: Apache-2.0
//
// The page map: what the page heap knows of each page of its memory, kept apart from all blocks. Two levels of pointers
// lead from an address to the leaf of its GiB. A leaf has a few bits for each chunk of 2 MiB, beside one another, so
// that a new range of addresses touches little; and a reservation with the records of pages, which takes memory only
// where a run begins or ends, or where freed pages may hold something. Neither is ever unmapped, so anyone may read it
// at any time; records of chunks in which the page heap has nothing any more return their memory and read as zero.
#ifndef HAKMEM_PAGES_PAGE_MAP_H_
#define HAKMEM_PAGES_PAGE_MAP_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/lock.h"
#include "allocator/pages/mapping_lock.h"

HAK_C_BEGIN

struct hak_run;

// The page map counts in pages of this size, even if the kernel's pages are larger.
#define HAK_PAGE_SHIFT 12u
#define HAK_PAGE_SIZE ((size_t)1 << HAK_PAGE_SHIFT)
#define HAK_CHUNK_SHIFT 21u
#define HAK_CHUNK_SIZE ((size_t)1 << HAK_CHUNK_SHIFT)
#define HAK_CHUNK_PAGES (HAK_CHUNK_SIZE / HAK_PAGE_SIZE)
#define HAK_LEAF_SHIFT 30u
#define HAK_LEAF_CHUNKS ((size_t)1 << (HAK_LEAF_SHIFT - HAK_CHUNK_SHIFT))
#define HAK_BRANCH_SHIFT 39u
#define HAK_BRANCH_LEAVES ((size_t)1 << (HAK_BRANCH_SHIFT - HAK_LEAF_SHIFT))
// The address bits of user space on x86-64 and aarch64 with four levels of page tables.
#define HAK_PAGE_MAP_BITS 48u
#define HAK_ROOT_BRANCHES ((size_t)1 << (HAK_PAGE_MAP_BITS - HAK_BRANCH_SHIFT))

#define HAK_LEAF_PAGES ((size_t)1 << (HAK_LEAF_SHIFT - HAK_PAGE_SHIFT))

// Under the lock of mapping_lock.h.
struct hak_chunk {
  // How many of its pages are in a run.
  uint16_t pages : 10;
  // The whole chunk was advised to be one huge page, and no part of it was returned.
  uint16_t huge : 1;
  // The whole chunk is the page heap's and is in small pages: because the heap was small, or since a part of it was
  // returned.
  uint16_t small : 1;
  // An entry of its pages in hak_page_records may be other than zero, so that the entries may take memory.
  uint16_t written : 1;
};
static_assert(HAK_CHUNK_PAGES < 1 << 10, "the pages of a chunk can be counted");

// The entry of a page. Its lower bits, at the first and the last page of each run: the run; those of other pages may be
// stale. Written under the lock. Its upper 16 bits, for the page in which a block with a tag begins: the tag
// (large/medium.h) in the lower eight, and the cache line of the page at which the block begins; 0 for all other pages.
// Written by the block's holder, or under the lock while there is no block.
// Relaxed: the block itself is handed over with stronger ordering, and whoever writes one part of an entry is the only
// one who writes to it.
#define HAK_ENTRY_TAG_SHIFT 48u
#define HAK_ENTRY_RUN (((uint64_t)1 << HAK_ENTRY_TAG_SHIFT) - 1)
static_assert(HAK_PAGE_MAP_BITS <= HAK_ENTRY_TAG_SHIFT, "a pointer leaves room for the tag");

// The records of the pages of a leaf. Those of a chunk that is in no run may be set to zero at any time.
struct hak_page_records {
  HAK_ATOMIC(uint64_t) entry[HAK_LEAF_PAGES];
  // One bit for each page: it may hold something other than zero. For a free run, the bits are kept under the lock. For
  // a live run, they are as they were when the run was taken, and the block's holder may read them. Pages in no run
  // have none. Relaxed: other bits of a word change meanwhile.
  HAK_ATOMIC(uint64_t) dirty[HAK_LEAF_PAGES / 64];
};
static_assert(sizeof(struct hak_page_records) < (size_t)4 * 1024 * 1024, "a leaf costs little address space");

struct hak_leaf {
  // NULL: there are no records yet. Written under the lock (release), read by anyone (acquire).
  HAK_ATOMIC(struct hak_page_records *) records;
  struct hak_leaf *next;  // the leaves with records. This and what follows: under the lock
  // A dirty bit may be other than zero, or was since the memory of the bits was returned. Relaxed: the bits of a live
  // run do not change, and this stays set while the leaf has a run.
  HAK_ATOMIC(bool) has_bits;
  bool bits_idle;    // the bits are counted as idle
  uint16_t covered;  // chunks that have pages in a run
  uint16_t idle;     // chunks that have none, but whose records may take memory; and one more if the bits are idle
  struct hak_chunk chunks[HAK_LEAF_CHUNKS];
};
struct hak_branch {
  struct hak_leaf leaves[HAK_BRANCH_LEAVES];
};
// Written under the lock (release), read by anyone (acquire).
extern HAK_ATOMIC(struct hak_branch *) hak_page_map_root[HAK_ROOT_BRANCHES];

// The leaf of this address; NULL: the page heap never had memory near it.
HAK_INLINE struct hak_leaf *hak_leaf_of(const void *address) {
  const uintptr_t at = (uintptr_t)address;
  if (HAK_UNLIKELY(at >> HAK_PAGE_MAP_BITS != 0)) return NULL;
  // Acquire: the branch was initialised before the pointer was stored.
  struct hak_branch *branch = atomic_load_explicit(&hak_page_map_root[at >> HAK_BRANCH_SHIFT], memory_order_acquire);
  if (HAK_UNLIKELY(branch == NULL)) return NULL;
  return &branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)];
}
// The records of the pages of its leaf; NULL: there are none.
HAK_INLINE struct hak_page_records *hak_page_records_of(const void *address) {
  struct hak_leaf *leaf = hak_leaf_of(address);
  // Acquire: the reservation was made writable before the pointer was stored.
  return HAK_LIKELY(leaf != NULL) ? atomic_load_explicit(&leaf->records, memory_order_acquire) : NULL;
}
// Where the page with this address is in its leaf.
HAK_INLINE size_t hak_leaf_page(const void *address) {
  return ((uintptr_t)address >> HAK_PAGE_SHIFT) & (HAK_LEAF_PAGES - 1);
}
// The record of the chunk with this address; NULL: the page heap never had memory near it.
HAK_INLINE struct hak_chunk *hak_chunk_of(const void *address) {
  struct hak_leaf *leaf = hak_leaf_of(address);
  // Relaxed: under the lock.
  if (leaf == NULL || atomic_load_explicit(&leaf->records, memory_order_relaxed) == NULL) return NULL;
  return &leaf->chunks[((uintptr_t)address >> HAK_CHUNK_SHIFT) & (HAK_LEAF_CHUNKS - 1)];
}
// The first byte of the chunk with this address.
HAK_INLINE char *hak_chunk_start(const char *address) { return (char *)((uintptr_t)address & ~(HAK_CHUNK_SIZE - 1)); }

struct hak_range {
  char *start;
  size_t size;
};
// The whole chunks of a range; size 0: it has none.
HAK_INLINE struct hak_range hak_whole_chunks(char *start, size_t size) {
  char *const first = hak_chunk_start(start + HAK_CHUNK_SIZE - 1);
  char *const end = hak_chunk_start(start + size);
  return (struct hak_range){.start = first, .size = end > first ? (size_t)(end - first) : 0};
}

// Bytes that are reserved for records, most of them never touched. Relaxed: a statistic.
uint64_t hak_page_map_bytes(void);

// The entry of the page with this address; NULL: the page heap has nothing there.
HAK_INLINE HAK_ATOMIC(uint64_t) * hak_page_entry_at(const void *address) {
  struct hak_page_records *records = hak_page_records_of(address);
  return HAK_LIKELY(records != NULL) ? &records->entry[hak_leaf_page(address)] : NULL;
}
// The same for a block that the page heap has given out.
HAK_INLINE HAK_ATOMIC(uint64_t) * hak_page_entry_of_block(const void *block) {
  const uintptr_t at = (uintptr_t)block;
  // Relaxed: the block's holder sees all that was written before the block was given out.
  struct hak_branch *branch = atomic_load_explicit(&hak_page_map_root[at >> HAK_BRANCH_SHIFT], memory_order_relaxed);
  struct hak_leaf *leaf = &branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)];
  return &atomic_load_explicit(&leaf->records, memory_order_relaxed)->entry[hak_leaf_page(block)];
}
// The tag in what an entry held.
HAK_INLINE uint32_t hak_page_tag_of(uint64_t value) { return (uint32_t)(value >> HAK_ENTRY_TAG_SHIFT); }
// The tag of an entry, for the block's holder or under the lock. Relaxed: see there.
HAK_INLINE uint32_t hak_page_tag(const HAK_ATOMIC(uint64_t) * entry) {
  return hak_page_tag_of(atomic_load_explicit(entry, memory_order_relaxed));
}
// Where in its page a block with this tag begins, in bytes.
HAK_INLINE size_t hak_page_tag_front(uint32_t tag) { return (size_t)(tag >> 8) * HAK_CACHE_LINE; }
HAK_INLINE void hak_page_set_tag(HAK_ATOMIC(uint64_t) * entry, uint32_t tag) {
  const uint64_t run = atomic_load_explicit(entry, memory_order_relaxed) & HAK_ENTRY_RUN;
  atomic_store_explicit(entry, run | (uint64_t)tag << HAK_ENTRY_TAG_SHIFT, memory_order_relaxed);
}

// Makes records for all chunks of the range. False: out of memory. Under the lock, as all functions below.
bool hak_page_map_cover(const void *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);

// Counts the pages of a range, which is covered, into its chunks when they come into runs, and out when they leave.
// Pages that leave have no dirty bit.
void hak_page_map_enter(const char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
void hak_page_map_leave(const char *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
// Counts no range as entered, because the counts may be half changed (hak_free_runs_start_anew).
void hak_page_map_start_anew(void) HAK_REQUIRES(hak_mapping_mutex);
// Returns the memory of records of chunks that are in no run, if there are more than `keep` such chunks: of some
// chunks, so that the lock is held only briefly. False: there are no more, or the kernel refused.
bool hak_page_map_return_idle(uint32_t keep) HAK_REQUIRES(hak_mapping_mutex);
// The bytes that are counted into chunks; UINT64_MAX: the counts contradict each other.
uint64_t hak_page_map_entered(void) HAK_REQUIRES(hak_mapping_mutex);

// The run in the entry of the page with this address; NULL: none.
HAK_INLINE struct hak_run *hak_page_map_run(const void *address) HAK_REQUIRES(hak_mapping_mutex) {
  const HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(address);
  if (entry == NULL) return NULL;
  // Relaxed: under the lock.
  return (struct hak_run *)(uintptr_t)(atomic_load_explicit(entry, memory_order_relaxed) & HAK_ENTRY_RUN);
}
// Sets the entries of the first and the last page of the range; they have no tag afterwards.
void hak_page_map_set_run(void *start, size_t size, struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex);

// The bytes of the range, of whole pages, that may hold something other than zero; and marks all pages of the range as
// such, or none.
size_t hak_page_map_dirty(const void *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);
void hak_page_map_set_dirty(void *start, size_t size, bool dirty) HAK_REQUIRES(hak_mapping_mutex);

// The end of the last page of the range that may hold something other than zero; the start of the range: there is none.
char *hak_page_map_last_dirty(void *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);

// Clears those pages of the range that may hold something other than zero. By the range's holder, without the lock.
void hak_page_map_clear(void *start, size_t size);

HAK_C_END

#endif  // HAKMEM_PAGES_PAGE_MAP_H_
