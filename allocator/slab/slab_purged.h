// SPDX-License-Identifier: Apache-2.0
//
// Purged pages: pages of a slab in use that were returned to the system (slab_purge.h), until blocks in them are used
// again. They are not committed memory.
//
// In builds with headers, every block of a purged page is free or not carved, and so is a block that has only its
// header there. These headers and the blocks' poison are lost. When a block of the page is taken, all headers in the
// page are renewed: they say that the blocks are purged, so nobody expects more poison than that at their ends. A free
// block that begins in front of purged pages has such a header since they were purged.
#ifndef HAKMEM_SLAB_SLAB_PURGED_H_
#define HAKMEM_SLAB_SLAB_PURGED_H_

#include "allocator/os/base.h"
#include "allocator/os/os.h"
#include "allocator/slab/slab.h"

HAK_C_BEGIN

// The pages of a slab that hold blocks. The last one may reach beyond them, but never into a guard page.
HAK_INLINE uint32_t hak_slab_pages(void) {
  return (uint32_t)((HAK_SLAB_ROOM + hak_os_page_size() - 1) / hak_os_page_size());
}
// How far the first byte of the slab's page `number`, and the byte behind the page, are from the end of the blocks.
struct hak_slab_page {
  uint32_t begin;
  uint32_t end;
};
HAK_INLINE struct hak_slab_page hak_slab_page_at(uint32_t number) {
  const uint32_t bytes = (uint32_t)hak_os_page_size();
  const uint32_t begin = (uint32_t)HAK_SLAB_ROOM - number * bytes;
  return (struct hak_slab_page){.begin = begin, .end = begin > bytes ? begin - bytes : 0};
}

// Records that `count` pages of the slab, from page `first` on, were returned. By the owner.
void hak_slab_note_purged(struct hak_slab *slab, uint32_t first, uint32_t count);
// Counts all pages of a slab that leaves its heap as memory again.
void hak_slab_unpurge(struct hak_slab *slab);
// Counts the purged pages that hold a part of one of these blocks as memory again, and renews the headers in them.
// Without headers, all pages of the slab. By the owner, for blocks that were just taken out of the slab or carved.
void hak_slab_unpurge_for(struct hak_slab *slab, void *const *blocks, uint32_t count);
HAK_INLINE void hak_slab_used_again(struct hak_slab *slab, void *const *blocks, uint32_t count) {
  if (HAK_UNLIKELY(slab->purged != 0)) hak_slab_unpurge_for(slab, blocks, count);
}

// Whether the block's header is in a purged page, so that it says nothing. By the owner; another thread gets a hint.
bool hak_slab_header_is_purged(const struct hak_slab *slab, const void *block);

// Bytes of slabs in use that were purged and not used since. Relaxed: a statistic.
uint64_t hak_slab_purged_bytes(void);

// Whether the memory limit allows the slab's blocks to be used: blocks in purged pages take memory again.
bool hak_slab_purged_admitted(const struct hak_slab *slab);
HAK_INLINE bool hak_slab_admitted(const struct hak_slab *slab) {
  return HAK_LIKELY(slab->purged == 0) || hak_slab_purged_admitted(slab);
}

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_PURGED_H_
