// SPDX-License-Identifier: Apache-2.0
//
// Many live blocks at once, of all kinds: small ones, some aligned, medium and large ones.
#ifndef HAKMEM_ALLOCATOR_TESTS_MANY_BLOCKS_H_
#define HAKMEM_ALLOCATOR_TESTS_MANY_BLOCKS_H_

#include <hakmem/hakmem.h>
#include <stddef.h>

#include <vector>

#include "allocator/test/test_random.h"

namespace hak_test {

// One block in ten is up to `medium_max` bytes long, one in forty up to 3 MB.
inline std::vector<void *> AllocateMany(Random *random, size_t count, size_t medium_max) {
  std::vector<void *> blocks;
  for (size_t i = 0; i < count; ++i) {
    const size_t kind = random->Index(40);
    const size_t size = kind == 0 ? random->Index(3000000)
                                  : random->Index(kind < 5    ? medium_max
                                                  : kind < 10 ? 3000
                                                              : 300);
    blocks.push_back(kind % 8 == 7 ? hak_aligned_alloc(size_t{16} << random->Index(10), size) : hak_malloc(size));
  }
  return blocks;
}

inline void FreeAll(const std::vector<void *> &blocks) {
  for (void *p : blocks) hak_free(p);
}

// Frees a random half, and returns the others.
inline std::vector<void *> FreeHalf(const std::vector<void *> &blocks, Random *random) {
  std::vector<void *> kept;
  for (void *p : blocks) {
    if (random->Index(2) == 0) {
      hak_free(p);
    } else {
      kept.push_back(p);
    }
  }
  return kept;
}

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_MANY_BLOCKS_H_
