// SPDX-License-Identifier: Apache-2.0
//
// The slab map, in either form, against an array of bytes.
//
// An input is a sequence of records of eight bytes:
//   byte 0    what is done: 0-95 covers a superslab and sets entries of it, 96-127 covers it while the system refuses
//             memory, 128-255 looks up
//   byte 1    which of 64 regions of 4 GiB
//   byte 2-3  which superslab of it
//   byte 4    first slab
//   byte 5    how many slabs
//   byte 6    what their entries become
//   byte 7    where in a slab is looked, and whether the address is any at all
#ifndef HAKMEM_FUZZ_SLAB_MAP_ENGINE_H_
#define HAKMEM_FUZZ_SLAB_MAP_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/slab/slab_map.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct SlabMapCalls {
  bool (*cover)(const void *superslab) = hak_slab_map_cover;
  void (*set)(const void *start, uint32_t count, uint32_t class_id) = hak_slab_map_set;
  uint32_t (*find)(const void *address) = hak_slab_map_find;
};

// Runs one input. The first call gives the process's map the form `form`; all calls must name the same form.
void RunSlabMapInput(const SlabMapCalls &calls, hak_slab_map_form form, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_SLAB_MAP_ENGINE_H_
