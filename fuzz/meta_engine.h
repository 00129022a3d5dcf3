// SPDX-License-Identifier: Apache-2.0
//
// Memory for records (allocator/meta) against a list of live records.
//
// An input is a row of records of eight bytes:
//   byte 0    what is done, see Step
//   byte 1    which of 32 places
//   byte 2    kind of size
//   byte 4-5  size; milliseconds of a tick; how many calls the system refuses
//   byte 6    which kinds of calls the system refuses
//   byte 7    which call is refused first
#ifndef HAKMEM_FUZZ_META_ENGINE_H_
#define HAKMEM_FUZZ_META_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/meta/meta.h"

namespace hak_fuzz {

// What is tested; controls put something wrong in a place.
struct MetaCalls {
  void *(*alloc)(size_t size) = hak_meta_alloc;
  void (*free)(void *record, size_t size) = hak_meta_free;
  bool (*rest)(void *record, size_t size) = hak_meta_rest;
  void (*wake)(size_t size) = hak_meta_wake;
  bool (*tick)(uint64_t now) = hak_meta_tick;
  size_t (*trim)() = hak_meta_trim;
};

void RunMetaInput(const MetaCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_META_ENGINE_H_
