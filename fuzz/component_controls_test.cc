// SPDX-License-Identifier: Apache-2.0
//
// For each engine of a single box: with a planted bug it must report the right thing with the first inputs that a
// fuzzer makes; without one it must report nothing. (size_class_fuzzer, slab_fuzzer and gate_fuzzer have their controls
// in box_controls_test.cc.) The other files of this test have those of blocks and of profiles.
//
// Each case is a process of its own, because planted bugs leave wrong records behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <string>

#include "allocator/meta/meta.h"
#include "allocator/meta/meta_pages.h"
#include "allocator/os/os.h"
#include "allocator/policy/memory_limit.h"
#include "fuzz/controls.h"
#include "fuzz/meta_engine.h"
#include "fuzz/page_heap_engine.h"
#include "fuzz/release_policy_engine.h"
#include "fuzz/slab_map_engine.h"

namespace hak_fuzz {
namespace {

// ---- Slab map -----------------------------------------------------------------------------------

class SlabMapControl : public testing::TestWithParam<hak_slab_map_form> {
 protected:
  void ExpectFound(const SlabMapCalls &calls, const testing::Matcher<const std::string &> &what) {
    ExpectFinds([&](const uint8_t *data, size_t size) { RunSlabMapInput(calls, GetParam(), data, size); }, what);
  }
  SlabMapCalls calls_;
};

TEST_P(SlabMapControl, NothingPlanted) { ExpectFound(calls_, "nothing"); }

TEST_P(SlabMapControl, SetsOneTooFew) {
  calls_.set = [](const void *start, uint32_t count, uint32_t class_id) {
    hak_slab_map_set(start, class_id == HAK_CLASS_NONE ? count : count - 1, class_id);
  };
  ExpectFound(calls_, "hak_slab_map_find");
}

TEST_P(SlabMapControl, SetsOneTooMany) {
  calls_.set = [](const void *start, uint32_t count, uint32_t class_id) {
    hak_slab_map_set(start, count, class_id);
    const char *behind = static_cast<const char *>(start) + count * HAK_SLAB_SIZE;
    if (reinterpret_cast<uintptr_t>(behind) % HAK_SUPERSLAB_SIZE != 0) hak_slab_map_set(behind, 1, class_id);
  };
  ExpectFound(calls_, "hak_slab_map_find");
}

TEST_P(SlabMapControl, FindsBeyondTheTop) {
  calls_.find = [](const void *address) -> uint32_t {
    const uintptr_t folded = reinterpret_cast<uintptr_t>(address) % (HAK_GRANULE_COUNT << HAK_SLAB_SHIFT);
    return folded == reinterpret_cast<uintptr_t>(address) ? hak_slab_map_find(address) : 5;
  };
  ExpectFound(calls_, "hak_slab_map_find");
}

TEST_P(SlabMapControl, CoverSaysYesWithoutMemory) {
  calls_.cover = [](const void *superslab) {
    hak_slab_map_cover(superslab);
    return true;
  };
  ExpectFound(calls_, "hak_slab_map_cover");
}

INSTANTIATE_TEST_SUITE_P(Forms, SlabMapControl, testing::Values(HAK_SLAB_MAP_FLAT, HAK_SLAB_MAP_TWO_LEVEL),
                         [](const testing::TestParamInfo<hak_slab_map_form> &form) {
                           return form.param == HAK_SLAB_MAP_FLAT ? "Flat" : "TwoLevel";
                         });

// ---- Records ------------------------------------------------------------------------------------

void ExpectMeta(const MetaCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunMetaInput(calls, data, size); }, what);
}

TEST(MetaControl, NothingPlanted) { ExpectMeta({}, "nothing"); }

TEST(MetaControl, NotCleared) {
  MetaCalls calls;
  calls.alloc = [](size_t size) {
    void *record = hak_meta_alloc(size);
    if (record != nullptr) static_cast<unsigned char *>(record)[hak_meta_usable(size) - 1] = 1;
    return record;
  };
  ExpectMeta(calls, "not zero");
}

TEST(MetaControl, NotAligned) {
  MetaCalls calls;
  calls.alloc = [](size_t size) -> void * {
    auto *record = static_cast<unsigned char *>(hak_meta_alloc(size));
    return record != nullptr && size > 64 && size <= HAK_META_PAGE / 2 ? record + 64 : record;
  };
  ExpectMeta(calls, "not aligned");
}

TEST(MetaControl, GivenTwice) {
  static void *last;
  MetaCalls calls;
  calls.alloc = [](size_t size) {
    if (size > 64) return hak_meta_alloc(size);
    if (last == nullptr) last = hak_meta_alloc(size);
    return last;
  };
  ExpectMeta(calls, testing::AnyOf("two records share bytes", "not zero"));
}

TEST(MetaControl, TakesWhatIsTooLarge) {
  static unsigned char none[1];
  MetaCalls calls;
  calls.alloc = [](size_t size) -> void * { return size > PTRDIFF_MAX ? none : hak_meta_alloc(size); };
  ExpectMeta(calls, "a record that is too large");
}

TEST(MetaControl, RefusesForNoReason) {
  MetaCalls calls;
  calls.alloc = [](size_t size) { return StrikesOnceIn(7) ? nullptr : hak_meta_alloc(size); };
  ExpectMeta(calls, "a record is refused for no reason");
}

TEST(MetaControl, FreeForgetsRecords) {
  MetaCalls calls;
  calls.free = [](void *record, size_t size) {
    if (!StrikesOnceIn(7)) hak_meta_free(record, size);
  };
  ExpectMeta(calls, testing::AnyOf("a page is lost", "mapped memory is miscounted"));
}

TEST(MetaControl, FreeTakesAnotherSize) {
  MetaCalls calls;
  calls.free = [](void *record, size_t size) {
    const size_t half = hak_meta_usable(size) / 2;
    hak_meta_free(record, half > 64 && half < HAK_META_PAGE / 2 ? half : size);
  };
  ExpectMeta(calls, "a page is lost");
}

TEST(MetaControl, RestDoesNothing) {
  MetaCalls calls;
  calls.rest = [](void *, size_t size) { return hak_meta_can_rest(size); };
  ExpectMeta(calls,
             testing::AnyOf("a record that rests does not read as zero", "a record rests that is not of whole pages"));
}

TEST(MetaControl, RestDoesNotSaySo) {
  MetaCalls calls;
  calls.rest = [](void *record, size_t size) {
    if (hak_meta_rest(record, size)) hak_meta_wake(size);
    return false;
  };
  ExpectMeta(calls, "a record cannot rest for no reason");
}

TEST(MetaControl, RestZeroesAndRefuses) {
  MetaCalls calls;
  calls.rest = [](void *record, size_t size) {
    const bool rests = hak_meta_rest(record, size);
    if (!rests) memset(record, 0, size);
    return rests;
  };
  ExpectMeta(calls, "a record lost its contents");
}

TEST(MetaControl, WakeForgets) {
  MetaCalls calls;
  calls.wake = [](size_t) {};
  ExpectMeta(calls, testing::AnyOf("memory stays", "memory is miscounted"));
}

TEST(MetaControl, TickMiscounts) {
  MetaCalls calls;
  calls.tick = [](uint64_t now) {
    hak_meta_tick(now);
    return true;
  };
  ExpectMeta(calls, "a tick is not what it says");
}

TEST(MetaControl, TickGivesAllBack) {
  MetaCalls calls;
  calls.tick = [](uint64_t now) { return hak_meta_tick(now) && hak_meta_trim() != 1; };
  ExpectMeta(calls, "a tick gives too much back");
}

TEST(MetaControl, TrimMiscounts) {
  MetaCalls calls;
  calls.trim = [] { return hak_meta_trim() + 1; };
  ExpectMeta(calls, "a trim is miscounted");
}

TEST(MetaControl, TrimDoesNothing) {
  MetaCalls calls;
  calls.trim = [] { return size_t{0}; };
  ExpectMeta(calls, "a trim leaves memory");
}

// ---- Page heap ----------------------------------------------------------------------------------

void ExpectPageHeap(const PageHeapCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunPageHeapInput(calls, data, size); }, what);
}

TEST(PageHeapControl, NothingPlanted) { ExpectPageHeap({}, "nothing"); }

TEST(PageHeapControl, NotCleared) {
  PageHeapCalls calls;
  calls.clear = [](void *, size_t) {};
  ExpectPageHeap(calls, "not zero");
}

TEST(PageHeapControl, ClearsHalf) {
  PageHeapCalls calls;
  calls.clear = [](void *start, size_t size) { hak_page_map_clear(start, size / 2); };
  ExpectPageHeap(calls, "not zero");
}

TEST(PageHeapControl, TakenTwice) {
  static void *last;
  PageHeapCalls calls;
  calls.take = [](const struct hak_page_request *request) {
    if (last != nullptr && request->align == hak_os_page_size()) {
      const struct hak_page_block found = hak_page_heap_look(last);
      if (found.size == request->size && (found.front != 0) == (request->colours != 0)) return last;
    }
    last = hak_page_heap_take(request);
    return last;
  };
  // A run that is taken twice has the tag of the first time.
  ExpectPageHeap(calls, testing::AnyOf("two blocks share pages", "another tag"));
}

TEST(PageHeapControl, NotAligned) {
  PageHeapCalls calls;
  calls.take = [](const struct hak_page_request *request) {
    struct hak_page_request other = *request;
    other.align = hak_os_page_size();
    return hak_page_heap_take(&other);
  };
  ExpectPageHeap(calls, "not aligned");
}

TEST(PageHeapControl, ForgetsTheTag) {
  PageHeapCalls calls;
  calls.resize = [](void *block, size_t size, uint8_t, bool may_move) {
    return hak_page_heap_resize(block, size, 0, may_move);
  };
  ExpectPageHeap(calls, "another tag");
}

TEST(PageHeapControl, AnotherSize) {
  PageHeapCalls calls;
  calls.look = [](const void *block) {
    struct hak_page_block found = hak_page_heap_look(block);
    found.size /= 2;
    return found;
  };
  ExpectPageHeap(calls, "another size");
}

TEST(PageHeapControl, ResizeLosesBytes) {
  PageHeapCalls calls;
  calls.resize = [](void *block, size_t size, uint8_t tag, bool may_move) {
    void *now = hak_page_heap_resize(block, size, tag, may_move);
    if (now != nullptr)
      *(reinterpret_cast<unsigned char *>(reinterpret_cast<uintptr_t>(now) | (HAK_PAGE_SIZE - 1))) ^= 0xFF;
    return now;
  };
  ExpectPageHeap(calls, "a block lost its contents");
}

TEST(PageHeapControl, ResizeRefusesToShrink) {
  PageHeapCalls calls;
  calls.resize = [](void *block, size_t size, uint8_t tag, bool may_move) -> void * {
    return size < hak_page_heap_look(block).size ? nullptr : hak_page_heap_resize(block, size, tag, may_move);
  };
  ExpectPageHeap(
      calls, testing::AnyOf("a block cannot be made smaller", "what follows is free, and the block cannot have it"));
}

TEST(PageHeapControl, ResizeRefusesToGrow) {
  PageHeapCalls calls;
  calls.resize = [](void *block, size_t size, uint8_t tag, bool may_move) -> void * {
    return size > hak_page_heap_look(block).size ? nullptr : hak_page_heap_resize(block, size, tag, may_move);
  };
  ExpectPageHeap(calls, "what follows is free, and the block cannot have it");
}

TEST(PageHeapControl, MovesWithoutLeave) {
  PageHeapCalls calls;
  calls.resize = [](void *block, size_t size, uint8_t tag, bool) {
    return hak_page_heap_resize(block, size, tag, true);
  };
  ExpectPageHeap(calls, "moved without leave");
}

TEST(PageHeapControl, KnowsTheMiddle) {
  PageHeapCalls calls;
  calls.look = [](const void *block) {
    return hak_page_heap_look(reinterpret_cast<const void *>(reinterpret_cast<uintptr_t>(block) & ~uintptr_t{63}));
  };
  ExpectPageHeap(calls, "the middle of a block is taken for a block");
}

TEST(PageHeapControl, LeaksFrees) {
  PageHeapCalls calls;
  calls.give = [](void *block) {
    return !StrikesOnceIn(7) ? hak_page_heap_give(block) : hak_page_heap_look(block).size != 0;
  };
  // The addresses of a leaked block are never handed out again.
  ExpectPageHeap(calls, "a freed block is taken for a block");
}

TEST(PageHeapControl, FailsNow) {
  PageHeapCalls calls;
  calls.take = [](const struct hak_page_request *request) {
    return StrikesOnceIn(7) ? nullptr : hak_page_heap_take(request);
  };
  ExpectPageHeap(calls, "a block is refused for no reason");
}

TEST(PageHeapControl, TrimKeepsMemory) {
  PageHeapCalls calls;
  calls.trim = []() -> size_t { return 0; };
  ExpectPageHeap(calls, "a trim leaves memory");
}

TEST(PageHeapControl, TrimMiscounts) {
  PageHeapCalls calls;
  calls.trim = [] { return hak_page_heap_trim() / 2; };
  ExpectPageHeap(calls, "a trim is miscounted");
}

TEST(PageHeapControl, TicksThatSayNothing) {
  PageHeapCalls calls;
  calls.tick = [](uint64_t now) { return hak_page_heap_tick(now) && false; };
  ExpectPageHeap(calls, "a tick is not what it says");
}

TEST(PageHeapControl, CommitsTwice) {
  PageHeapCalls calls;
  calls.take = [](const struct hak_page_request *request) {
    void *block = hak_page_heap_take(request);
    if (block != nullptr) hak_commit_add(request->size);
    return block;
  };
  ExpectPageHeap(calls, "committed memory is miscounted");
}

// ---- Release policy -----------------------------------------------------------------------------

void ExpectReleasePolicy(const ReleasePolicyCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunReleasePolicyInput(calls, data, size); }, what);
}

TEST(ReleasePolicyControl, NothingPlanted) { ExpectReleasePolicy({}, "nothing"); }

TEST(ReleasePolicyControl, DeadlineALittleEarly) {
  ReleasePolicyCalls calls;
  calls.superslab = [](const hak_release_facts *facts) {
    hak_release_facts other = *facts;
    if (other.deadline_ms > 0) --other.deadline_ms;
    return hak_release_superslab(&other);
  };
  ExpectReleasePolicy(calls, "hak_release_superslab");
}

TEST(ReleasePolicyControl, LeanAtTheTarget) {
  ReleasePolicyCalls calls;
  calls.eagerly = [](const hak_eager_facts *facts) {
    hak_eager_facts lower = *facts;
    if (lower.target != 0) lower.target--;
    return hak_eager_mode(&lower);
  };
  ExpectReleasePolicy(calls, "hak_eager_mode");
}

TEST(ReleasePolicyControl, NothingIsEagerBeyondTheSoftLimit) {
  ReleasePolicyCalls calls;
  calls.eagerly = [](const hak_eager_facts *facts) {
    hak_eager_facts without = *facts;
    without.soft_limit = 0;
    return hak_eager_mode(&without);
  };
  ExpectReleasePolicy(calls, "hak_eager_mode");
}

TEST(ReleasePolicyControl, SumWraps) {
  ReleasePolicyCalls calls;
  calls.judge = [](const hak_limit_facts *facts) {
    const uint64_t wanted = facts->committed + facts->more;
    if (wanted > facts->purge_at) return HAK_LIMIT_PURGE;
    return facts->hard != 0 && wanted > facts->hard ? HAK_LIMIT_REFUSE : HAK_LIMIT_GROW;
  };
  ExpectReleasePolicy(calls, "hak_limit_judge");
}

TEST(ReleasePolicyControl, NextPurgeWraps) {
  ReleasePolicyCalls calls;
  calls.next_purge = [](uint64_t soft, uint64_t committed, uint64_t more) {
    const uint64_t wanted = committed + more;
    const uint64_t next = wanted + (wanted > soft ? wanted : soft) / 32;
    return soft == UINT64_MAX ? soft : next < soft ? soft : next;
  };
  ExpectReleasePolicy(calls, "hak_limit_next_purge");
}

TEST(ReleasePolicyControl, SoftForgetsTheGroup) {
  ReleasePolicyCalls calls;
  calls.soft = [](uint64_t hard, uint64_t, uint64_t setting) { return hak_limit_soft(hard, 0, setting); };
  ExpectReleasePolicy(calls, "hak_limit_soft");
}

TEST(ReleasePolicyControl, SoftForgetsTheSetting) {
  ReleasePolicyCalls calls;
  calls.soft = [](uint64_t hard, uint64_t group, uint64_t) { return hak_limit_soft(hard, group, 0); };
  ExpectReleasePolicy(calls, "hak_limit_soft");
}

TEST(ReleasePolicyControl, SliceWithoutEnd) {
  ReleasePolicyCalls calls;
  calls.slice_us = [](uint64_t elapsed_ms) { return elapsed_ms * 100; };
  ExpectReleasePolicy(calls, "hak_release_slice_us");
}

TEST(ReleasePolicyControl, AdmitsEverything) {
  ReleasePolicyCalls calls;
  calls.admit = [](uint64_t) { return true; };
  ExpectReleasePolicy(calls, "hak_limit_admit");
}

TEST(ReleasePolicyControl, PurgesAreForgotten) {
  ReleasePolicyCalls calls;
  calls.purged = [](uint64_t) {};
  ExpectReleasePolicy(calls, testing::AnyOf(std::string("hak_limit_admit"), std::string("purges are miscounted")));
}

}  // namespace
}  // namespace hak_fuzz
