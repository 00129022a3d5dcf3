// SPDX-License-Identifier: Apache-2.0
//
// The slab map: one byte for each 64 KiB granule of the address space, the class id of what begins or lies there.
// HAK_CLASS_NONE for everything that is not a slab or span: NULL, foreign memory, blocks with a mapping of their own.
//
// Flat form: one reserved array over the whole address space, of which only the parts that were written are backed.
// Two-level form, for limited address spaces: a root of leaves of 64 Ki entries. In that form `limit` is 0, so that the
// inline lookup answers "not here" for every pointer and the caller's slow path asks hak_slab_map_find.
#ifndef HAKMEM_TINY_SLAB_MAP_H_
#define HAKMEM_TINY_SLAB_MAP_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/tiny/size_class.h"

HAK_C_BEGIN

#if defined(__aarch64__)
#define HAK_ADDRESS_BITS 48u
#else
#define HAK_ADDRESS_BITS 47u
#endif
#define HAK_GRANULE_COUNT ((uintptr_t)1 << (HAK_ADDRESS_BITS - HAK_SLAB_SHIFT))

// Written once, by hak_slab_map_init, before the first slab exists; whoever holds a block got it after that.
struct hak_slab_map {
  const HAK_ATOMIC(uint8_t) * flat;
  uintptr_t limit;  // the highest granule that `flat` covers
};
extern struct hak_slab_map hak_slab_map;

enum hak_slab_map_form { HAK_SLAB_MAP_AUTO, HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL };

// Chooses the form: AUTO takes the flat one unless the address space is limited; the flat one falls back to two levels
// when the reservation is refused.
void hak_slab_map_init(enum hak_slab_map_form form);

// Makes sure that the entries of the superslab at `superslab` can be written. False: out of memory. Under the pool
// lock.
bool hak_slab_map_cover(const void *superslab);

// Sets `count` entries from the granule of `start` on, within a covered superslab. Under the pool lock.
void hak_slab_map_set(const void *start, uint32_t count, uint32_t class_id);

// The entry of any address, in either form.
uint32_t hak_slab_map_find(const void *address);

// Whether the flat form is in use.
bool hak_slab_map_is_flat(void);

// The entry of `address`, or HAK_CLASS_NONE when the inline form does not cover it. Relaxed: the pointer came to this
// thread by some synchronisation, and the entry was written before the pointer was handed out.
HAK_INLINE uint32_t hak_slab_map_class(const void *address) {
  const uintptr_t granule = (uintptr_t)address >> HAK_SLAB_SHIFT;
  if (HAK_UNLIKELY(granule > hak_slab_map.limit)) return HAK_CLASS_NONE;
  return atomic_load_explicit(&hak_slab_map.flat[granule], memory_order_relaxed);
}

HAK_C_END

#endif  // HAKMEM_TINY_SLAB_MAP_H_
