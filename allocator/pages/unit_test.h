// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the page heap share: requests in whole pages, and a heap that is empty before and after each case.
#ifndef HAKMEM_PAGES_UNIT_TEST_H_
#define HAKMEM_PAGES_UNIT_TEST_H_

#include <gtest/gtest.h>

#include <algorithm>

#include "allocator/os/os.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"

namespace hak_unit {

constexpr uint64_t kHour = uint64_t{3600} * 1000;
constexpr size_t kMiB = size_t{1} << 20;
inline const size_t kPage = hak_os_page_size();

inline char *Take(size_t size, size_t align = 0, uint32_t colours = 0, bool grow = true) {
  hak_page_request request = {};
  request.size = hak_round_up(size, kPage);
  request.align = std::max(align, kPage);
  request.colours = colours;
  request.grow = grow;
  return static_cast<char *>(hak_page_heap_take(&request));
}
inline bool Give(char *block) { return hak_page_heap_give(block); }
inline size_t SizeOf(const char *block) { return hak_page_heap_look(block).size; }
inline char *Resize(char *block, size_t size, bool may_move) {
  return static_cast<char *>(hak_page_heap_resize(block, hak_round_up(size, kPage), 0, may_move));
}

// The committed bytes beyond the blocks' totals; they include records of runs and pages.
inline uint64_t CommittedBeside(uint64_t live) { return hak_commit_now() - live - hak_page_heap_totals().cached_bytes; }

class PageHeap : public ::testing::Test {
 protected:
  PageHeap() {
    hak_config.decommit_deadline_ms = kHour;
    hak_config.mapping_cache_bytes = 256 * kMiB;
    hak_config.lean_decommit = HAK_DECOMMIT_OFF;
    hak_config.huge_pages = HAK_HUGE_PAGES_OFF;
    hak_config.memory_limit_bytes = 0;
    hak_limit_changed();
    EXPECT_EQ(hak_page_heap_totals().mapped_bytes, 0u);
  }
  ~PageHeap() override {
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    hak_page_heap_trim();
    EXPECT_STREQ(hak_page_heap_verify(), nullptr);
    const struct hak_page_heap_totals left = hak_page_heap_totals();
    EXPECT_EQ(left.blocks, 0u);
    EXPECT_EQ(left.bytes, 0u);
    EXPECT_EQ(left.cached_bytes, 0u);
    EXPECT_EQ(left.mapped_bytes, 0u) << "all addresses go back with a trim when nothing is live";
  }
};

}  // namespace hak_unit

#endif  // HAKMEM_PAGES_UNIT_TEST_H_
