// SPDX-License-Identifier: Apache-2.0
//
// The page map: what the page heap knows of each page of its memory, kept apart from all blocks. There is one record
// for each chunk of 2 MiB of addresses, in leaves of 1 GiB that are found through two levels of pointers. A leaf is
// reserved as a whole and takes memory only for the chunks in use. It is never unmapped.
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

struct hak_chunk {
  // Bit i: page i may hold something other than zero. For a free run, the bits are kept under the lock of
  // mapping_lock.h. For a live run, they are as they were when the run was taken, and the block's holder may read them.
  // Relaxed: other bits of a word change meanwhile.
  HAK_ATOMIC(uint64_t) dirty[HAK_CHUNK_PAGES / 64];
  // The whole chunk was advised to be one huge page, and no part of it was returned. Under the lock.
  bool huge;
  // The whole chunk is the page heap's and is in small pages: because the heap was small, or since a part of it was
  // returned. Under the lock.
  bool small;
  // For the page in which a medium block begins: its tag (large/medium.h); 0 for all other pages. Written by the
  // block's holder, or under the lock while there is no block (relaxed: the block itself is handed over with stronger
  // ordering).
  HAK_ATOMIC(uint16_t) tag[HAK_CHUNK_PAGES];
  // At the first and the last page of each run: the run. Other entries may be stale. Under the lock.
  struct hak_run *run[HAK_CHUNK_PAGES];
};
static_assert(HAK_LEAF_CHUNKS * sizeof(struct hak_chunk) < (size_t)4 * 1024 * 1024,
              "a leaf costs little address space");

struct hak_branch {
  HAK_ATOMIC(struct hak_chunk *) leaves[HAK_BRANCH_LEAVES];
};
// Written under the lock (release), read by anyone (acquire).
extern HAK_ATOMIC(struct hak_branch *) hak_page_map_root[HAK_ROOT_BRANCHES];

// The record of the chunk with this address; NULL: the page heap never had memory near it.
HAK_INLINE struct hak_chunk *hak_chunk_of(const void *address) {
  const uintptr_t at = (uintptr_t)address;
  if (HAK_UNLIKELY(at >> HAK_PAGE_MAP_BITS != 0)) return NULL;
  // Acquire, both: the targets were initialised before the pointers were stored.
  struct hak_branch *branch = atomic_load_explicit(&hak_page_map_root[at >> HAK_BRANCH_SHIFT], memory_order_acquire);
  if (HAK_UNLIKELY(branch == NULL)) return NULL;
  struct hak_chunk *leaf =
      atomic_load_explicit(&branch->leaves[(at >> HAK_LEAF_SHIFT) & (HAK_BRANCH_LEAVES - 1)], memory_order_acquire);
  if (HAK_UNLIKELY(leaf == NULL)) return NULL;
  return &leaf[(at >> HAK_CHUNK_SHIFT) & (HAK_LEAF_CHUNKS - 1)];
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
HAK_INLINE size_t hak_chunk_page(const void *address) {
  return ((uintptr_t)address >> HAK_PAGE_SHIFT) & (HAK_CHUNK_PAGES - 1);
}

// Bytes that are reserved for leaves, most of them never touched. Relaxed: a statistic.
uint64_t hak_page_map_bytes(void);

// The tag of the page with this address, for its block's holder or under the lock; NULL: the page heap has nothing
// there.
HAK_INLINE HAK_ATOMIC(uint16_t) * hak_page_tag_at(const void *address) {
  struct hak_chunk *chunk = hak_chunk_of(address);
  return HAK_LIKELY(chunk != NULL) ? &chunk->tag[hak_chunk_page(address)] : NULL;
}

// Makes records for all chunks of the range. False: out of memory. Under the lock, as all functions below.
bool hak_page_map_cover(const void *start, size_t size) HAK_REQUIRES(hak_mapping_mutex);

// The entry of the page with this address; NULL: none.
struct hak_run *hak_page_map_run(const void *address) HAK_REQUIRES(hak_mapping_mutex);
// Sets the entries of the first and the last page of the range.
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
