// SPDX-License-Identifier: Apache-2.0
//
// An oracle for blocks of whole pages: who has which addresses, and what they hold. One thread runs at a time, so it
// needs no lock.
#ifndef HAKMEM_TEST_SCHEDULES_LIVE_RANGES_H_
#define HAKMEM_TEST_SCHEDULES_LIVE_RANGES_H_

#include <stddef.h>
#include <string.h>

#include <iterator>
#include <map>

#include "allocator/test/schedules/scheduler.h"

namespace hak_schedules {

class LiveRanges {
 public:
  // Fails if another block has some of the addresses. Writes to the block's first and last bytes.
  void Take(char *block, size_t size) {
    const auto after = blocks_.lower_bound(block);
    if (after != blocks_.end() && after->first < block + size) Fail("a block overlaps the next one");
    if (after != blocks_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second > block) Fail("a block overlaps the one before");
    }
    blocks_[block] = size;
    Write(block, block);
    Write(block + size - sizeof block, block);
  }
  // Fails if the bytes are not what Take wrote. Returns the size.
  size_t Give(char *block) {
    const auto at = blocks_.find(block);
    if (at == blocks_.end()) Fail("nobody has the block");
    const size_t size = at->second;
    Require(block, block);
    Require(block + size - sizeof block, block);
    blocks_.erase(at);
    return size;
  }
  size_t Count() const { return blocks_.size(); }

  static void Require(const char *at, const char *block) {
    if (memcmp(at, &block, sizeof block) != 0) Fail("somebody wrote to the block, or its memory was returned");
  }

 private:
  static void Write(char *at, const char *block) { memcpy(at, &block, sizeof block); }

  std::map<char *, size_t> blocks_;
};

}  // namespace hak_schedules

#endif  // HAKMEM_TEST_SCHEDULES_LIVE_RANGES_H_
