// SPDX-License-Identifier: Apache-2.0
//
// For tests of the rooms above: uses blocks as a program does, without the entry points, which write their headers.
#ifndef HAKMEM_BLOCK_UNIT_TEST_H_
#define HAKMEM_BLOCK_UNIT_TEST_H_

#include "allocator/block/block_check.h"
#include "allocator/block/tiny_region_id.h"

namespace hak_unit {

// Between these two calls the test may write any byte of the block. After the second one the block counts as never
// handed out.
inline void BeginUse(void *block, uint32_t class_id) { tiny_region_id_set_free(block, class_id); }
inline void EndUse(void *block, uint32_t class_id) { hak_block_make_fresh(block, class_id); }

}  // namespace hak_unit

#endif  // HAKMEM_BLOCK_UNIT_TEST_H_
