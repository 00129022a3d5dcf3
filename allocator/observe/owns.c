// SPDX-License-Identifier: Apache-2.0
//
// Asks the records for a block at an address. They are apart from all blocks and are never unmapped, so any address may
// be looked up. The head of a superslab is not among them: it may be unmapped meanwhile, and this file never reads it.
#include "allocator/observe/owns.h"

#include "allocator/block/empty_blocks.h"
#include "allocator/large/large.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_map.h"

// Whether a slab of the class has a block there. In a superslab's first slab the head comes first.
static bool is_small_block(const void *address, uint32_t class_id) {
  const uintptr_t in_superslab = (uintptr_t)address & (HAK_SUPERSLAB_SIZE - 1);
  const uintptr_t in_slab = in_superslab & (HAK_SLAB_SIZE - 1);
  const uintptr_t lowest = (in_slab == in_superslab ? HAK_SUPERSLAB_HEAD : 0) + HAK_HEADER_BYTES;
  return in_slab >= lowest && hak_slab_is_block_start(address, hak_class_info[class_id].reciprocal);
}

bool hak_is_block(const void *address) {
  // Not the inline lookup: the entry may change meanwhile, because the address need not be that of a live block.
  const uint32_t class_id = hak_slab_map_find(address);
  if (hak_class_is_tiny(class_id)) return is_small_block(address, class_id);
  return (HAK_HARDENED && hak_empty_state_of(address) == HAK_EMPTY_LIVE) || hak_large_is_live(address);
}
