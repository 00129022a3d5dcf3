// SPDX-License-Identifier: Apache-2.0
//
// The slab map: for each 64 KiB granule of the address space two bytes, the class id of the slab there times
// HAK_BIN_BYTES: the offset of the class's bin in a cache, as in hak_bin_of_units. HAK_CLASS_NONE for everything that
// is not a slab: NULL, foreign memory, blocks of the page heap.
//
// Flat form: one reserved array over a window of addresses, 512 GiB around the address where the kernel put the array
// itself, most of it on the side where the kernel puts what it maps later. Only the written parts of the array are
// backed by memory. Later mappings of the kernel lie in the window too, unless the program has filled it with mappings
// of its own. Two-level form, for addresses outside the window and for limited address spaces: a root of leaves of 64
// Ki entries. Without a window hak_slab_map_limit is 0, so that the inline lookup covers no block; the slow path of the
// caller then asks hak_slab_map_find.
#ifndef HAKMEM_SLAB_SLAB_MAP_H_
#define HAKMEM_SLAB_SLAB_MAP_H_

#include "allocator/block/size_class.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/policy/config.h"

HAK_C_BEGIN

#if defined(__aarch64__)
#define HAK_ADDRESS_BITS 48u
#else
#define HAK_ADDRESS_BITS 47u
#endif
#define HAK_ADDRESS_SPACE ((size_t)1 << HAK_ADDRESS_BITS)
#define HAK_GRANULE_COUNT ((uintptr_t)1 << (HAK_ADDRESS_BITS - HAK_SLAB_SHIFT))
// The window, and the flat form.
#define HAK_WINDOW_BITS 39u
#define HAK_WINDOW_SIZE ((size_t)1 << HAK_WINDOW_BITS)
#define HAK_WINDOW_GRANULES ((uintptr_t)1 << (HAK_WINDOW_BITS - HAK_SLAB_SHIFT))
#define HAK_SLAB_MAP_BYTES (HAK_WINDOW_GRANULES * sizeof(uint16_t))
static_assert((HAK_CLASS_IDS - 1) * HAK_BIN_BYTES <= UINT16_MAX, "an entry holds the offset of each bin");

// Written once, by hak_slab_map_init, before the first slab exists; a thread that holds a block got it after that.
// Three variables rather than a struct, because each is then one operand of an instruction.
extern const uint16_t *hak_slab_map_flat;
extern uintptr_t hak_slab_map_base;   // the window's first granule
extern uintptr_t hak_slab_map_limit;  // the last granule that the flat form covers, counted from there; 0: no window

// Chooses the form. AUTO takes the flat form unless the address space is limited. If the kernel refuses the
// reservation, the two-level form is used.
void hak_slab_map_init(enum hak_slab_map_form form);

// Makes the entries of the superslab at `superslab` writable. False: out of memory. Under the pool lock.
bool hak_slab_map_cover(const void *superslab);

// Sets `count` entries from the granule of `start` on, within a superslab that hak_slab_map_cover covered. Under the
// pool lock.
void hak_slab_map_set(const void *start, uint32_t count, uint32_t class_id);

// The entry of any address, in either form.
uint32_t hak_slab_map_find(const void *address);

// The first granule of the address space from `granule` on that is a slab's; HAK_GRANULE_COUNT or more: there is none.
uintptr_t hak_slab_map_next(uintptr_t granule);

// Whether the flat form is in use.
bool hak_slab_map_is_flat(void);

// The granule of an address, counted from the first one of the window (below the window: a very large number), and
// whether the inline form covers it.
HAK_INLINE uintptr_t hak_slab_map_granule(const void *address) {
  return ((uintptr_t)address >> HAK_SLAB_SHIFT) - hak_slab_map_base;
}
HAK_INLINE bool hak_slab_map_covers(uintptr_t granule) { return granule <= hak_slab_map_limit; }

// The entry of a granule that the inline form covers. A plain read: the entry of a live block was written before the
// block was handed out, and is written again only after its last block was freed and returned.
HAK_INLINE uint32_t hak_slab_map_bin(uintptr_t granule) { return hak_slab_map_flat[granule]; }
HAK_INLINE uint32_t hak_slab_map_class(uintptr_t granule) { return hak_slab_map_bin(granule) / HAK_BIN_BYTES; }

// The entry of any address, in either form. As hak_slab_map_find, for paths where a call costs too much.
HAK_INLINE uint32_t hak_slab_map_look_up_bin(const void *address) {
  const uintptr_t granule = hak_slab_map_granule(address);
  if (HAK_LIKELY(hak_slab_map_covers(granule))) return hak_slab_map_bin(granule);
  return hak_slab_map_find(address) * HAK_BIN_BYTES;
}
HAK_INLINE uint32_t hak_slab_map_look_up(const void *address) {
  return hak_slab_map_look_up_bin(address) / HAK_BIN_BYTES;
}

HAK_C_END

#endif  // HAKMEM_SLAB_SLAB_MAP_H_
