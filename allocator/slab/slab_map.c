// SPDX-License-Identifier: Apache-2.0
//
// The slab map in both forms: setting up, writing, and the lookup outside the window.
#include "allocator/slab/slab_map.h"

#include "allocator/os/atomic.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"

#define LEAF_SHIFT 16u
#define LEAF_SIZE ((size_t)1 << LEAF_SHIFT)  // in granules
#define LEAF_BYTES (LEAF_SIZE * sizeof(uint16_t))
#define ROOT_SIZE (HAK_GRANULE_COUNT >> LEAF_SHIFT)

// The flat form is made writable in pieces of one leaf: 128 KiB of map for 4 GiB of addresses.
static_assert(LEAF_BYTES % 65536 == 0, "a leaf is whole pages on every kernel");

static const uint16_t no_entry = HAK_CLASS_NONE;
const uint16_t *hak_slab_map_flat = &no_entry;
uintptr_t hak_slab_map_base;
uintptr_t hak_slab_map_limit;

static uintptr_t granule_of(const void *address) { return (uintptr_t)address >> HAK_SLAB_SHIFT; }

// The leaf of each 4 GiB of addresses. In the window it points into the flat array once that part is writable. Written
// under the pool lock (release), read by anyone (acquire).
static HAK_ATOMIC(HAK_ATOMIC(uint16_t) *) root[ROOT_SIZE];

// The first granule of the window for an array at this granule. Kernels place mappings below earlier ones, close to the
// stack, or above them from a third of the address space on, where the stack has no limit; and some into gaps on the
// other side.
static uintptr_t window_base(uintptr_t middle) {
  if (middle < HAK_WINDOW_GRANULES) return 0;  // It holds all addresses, or those of an emulator.
  const bool downwards = middle > granule_of(__builtin_frame_address(0)) / 2;
  const uintptr_t base = middle - HAK_WINDOW_GRANULES / 8 * (downwards ? 7 : 1);
  return base & ~(LEAF_SIZE - 1);
}

void hak_slab_map_init(enum hak_slab_map_form form) {
  // A limit on the address space does not matter if it is far above the size of the map.
  const bool limited = hak_os_address_space_limit() < 64 * (uint64_t)HAK_SLAB_MAP_BYTES;
  if (form == HAK_SLAB_MAP_TWO_LEVEL || (form == HAK_SLAB_MAP_AUTO && limited)) return;
  void *flat = hak_os_reserve(HAK_SLAB_MAP_BYTES);
  if (flat == NULL) return;
  hak_os_leave_out_of_core(flat, HAK_SLAB_MAP_BYTES);
  hak_slab_map_base = window_base(granule_of(flat));
  hak_slab_map_flat = flat;
  hak_slab_map_limit = HAK_WINDOW_GRANULES - 1;
}

bool hak_slab_map_is_flat(void) { return hak_slab_map_limit != 0; }

bool hak_slab_map_cover(const void *superslab) {
  const uintptr_t granule = granule_of(superslab);
  if (granule >= HAK_GRANULE_COUNT) return false;
  HAK_ATOMIC(HAK_ATOMIC(uint16_t) *) *slot = &root[granule >> LEAF_SHIFT];
  if (atomic_load_explicit(slot, memory_order_relaxed) != NULL) return true;  // Relaxed: written under this lock.
  HAK_ATOMIC(uint16_t) * leaf;
  if (hak_slab_map_is_flat() && hak_slab_map_covers(granule - hak_slab_map_base)) {
    const uintptr_t first = (granule & ~(LEAF_SIZE - 1)) - hak_slab_map_base;
    leaf = (HAK_ATOMIC(uint16_t) *)(uintptr_t)hak_slab_map_flat + first;
    if (!hak_os_commit((void *)(uintptr_t)leaf, LEAF_BYTES)) return false;
  } else {
    leaf = hak_os_map(LEAF_BYTES, hak_os_page_size());
    if (leaf == NULL) return false;
  }
  // Release: a thread that finds the leaf finds it mapped and zero.
  atomic_store_explicit(slot, leaf, memory_order_release);
  return true;
}

void hak_slab_map_set(const void *start, uint32_t count, uint32_t class_id) {
  const uintptr_t granule = granule_of(start);
  HAK_ATOMIC(uint16_t) *leaf = atomic_load_explicit(&root[granule >> LEAF_SHIFT], memory_order_relaxed);
  for (uint32_t i = 0; i < count; i++) {
    // Relaxed: see hak_slab_map_class.
    atomic_store_explicit(&leaf[(granule & (LEAF_SIZE - 1)) + i], (uint16_t)(class_id * HAK_BIN_BYTES),
                          memory_order_relaxed);
  }
}

uint32_t hak_slab_map_find(const void *address) {
  const uintptr_t granule = granule_of(address);
  if (granule >= HAK_GRANULE_COUNT) return HAK_CLASS_NONE;
  // Acquire: pairs with hak_slab_map_cover.
  HAK_ATOMIC(uint16_t) *leaf = atomic_load_explicit(&root[granule >> LEAF_SHIFT], memory_order_acquire);
  if (leaf == NULL) return HAK_CLASS_NONE;
  return atomic_load_explicit(&leaf[granule & (LEAF_SIZE - 1)], memory_order_relaxed) / HAK_BIN_BYTES;
}

HAK_COLD uintptr_t hak_slab_map_next(uintptr_t granule) {
  while (granule < HAK_GRANULE_COUNT) {
    // Acquire: as in hak_slab_map_find.
    HAK_ATOMIC(uint16_t) *leaf = atomic_load_explicit(&root[granule >> LEAF_SHIFT], memory_order_acquire);
    if (leaf == NULL) {
      granule = (granule | (LEAF_SIZE - 1)) + 1;
    } else if (atomic_load_explicit(&leaf[granule & (LEAF_SIZE - 1)], memory_order_relaxed) == HAK_CLASS_NONE) {
      granule++;
    } else {
      break;
    }
  }
  return granule;
}
