// SPDX-License-Identifier: Apache-2.0
//
// An oracle for small blocks: who has each. One thread runs at a time, so it needs no lock.
#ifndef HAKMEM_TEST_SCHEDULES_LIVE_BLOCKS_H_
#define HAKMEM_TEST_SCHEDULES_LIVE_BLOCKS_H_

#include <set>

#include "allocator/block/unit_test.h"
#include "allocator/slab/slab_map.h"
#include "allocator/test/schedules/scheduler.h"

namespace hak_schedules {

class LiveBlocks {
 public:
  void Take(void *block) {
    if (!blocks_.insert(block).second) Fail("a block was handed out twice");
    hak_unit::BeginUse(block, hak_slab_map_find(block));
  }
  void Give(void *block) {
    hak_unit::EndUse(block, hak_slab_map_find(block));
    blocks_.erase(block);
  }

 private:
  std::set<void *> blocks_;
};

}  // namespace hak_schedules

#endif  // HAKMEM_TEST_SCHEDULES_LIVE_BLOCKS_H_
