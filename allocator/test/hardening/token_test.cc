// SPDX-License-Identifier: Apache-2.0
//
// Blocks with and without pointers, as clang -fsanitize=alloc-token -falloc-token-max=2 tells them: HARDENED keeps them
// in different slabs, whatever happens to them. No compiler of Debian emits these calls, so the test makes them.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <iterator>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/block/size_class.h"
#include "allocator/slab/slab_map.h"
#include "allocator/test/compiler_names.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr std::align_val_t kAlign{256};

enum Place { kPlain, kApart, kNoSlab };

// Where the block lies. A slab has one class from the first block to the last.
Place PlaceOf(const void *block) {
  const uint32_t class_id = hak_slab_map_find(block);
  if (!hak_class_is_tiny(class_id)) return kNoSlab;
  return hak_class_has_pointers(class_id) ? kApart : kPlain;
}

// Large blocks, blocks of size 0 and the few that have guard pages of their own are in no slab.
void ExpectPlace(const void *block, Place place) {
  const Place found = PlaceOf(block);
  if (found != kNoSlab) {
    EXPECT_EQ(found, place) << block;
  }
}

bool HasOne(const char *name) { return strncmp(name, "__alloc_token_1_", 16) == 0; }

// Frees a block of the form of operator new as C++ wants it.
void Release(const char *name, void *block) {
  const bool array = strstr(name, "Znam") != nullptr;
  if (strstr(name, "align") != nullptr) {
    array ? operator delete[](block, kAlign) : operator delete(block, kAlign);
  } else {
    array ? operator delete[](block) : operator delete(block);
  }
}

class Tokens : public testing::Test {
 protected:
  // Blocks remember by which form they were allocated.
  void SetUp() override { ASSERT_EQ(hak_config_set("HAKMEM_MISMATCH", "fatal"), 0); }
};

TEST_F(Tokens, OnlyTheNamesWithOneGiveBlocksApart) {
  uint32_t apart = 0;
  for (const size_t size : {size_t{1}, size_t{24}, size_t{1000}, size_t{5000}, size_t{20000}, size_t{100000}}) {
    for (const auto &name : kNewNames) {
      SCOPED_TRACE(testing::Message() << name.name << " " << size);
      void *block = name.call(size, kAlign);
      ASSERT_NE(block, nullptr);
      ExpectPlace(block, HasOne(name.name) ? kApart : kPlain);
      apart += PlaceOf(block) == kApart;
      memset(block, 1, size);
      Release(name.name, block);
    }
    for (const auto &name : kSizedNewNames) {
      SCOPED_TRACE(testing::Message() << name.name << " " << size);
      const SizedPtr block = name.call(size, kAlign);
      ASSERT_NE(block.ptr, nullptr);
      EXPECT_EQ(block.size, size);
      ExpectPlace(block.ptr, HasOne(name.name) ? kApart : kPlain);
      apart += PlaceOf(block.ptr) == kApart;
      memset(block.ptr, 1, size);
      Release(name.name, block.ptr);
    }
    for (const auto &api : kTokenApis) {
      SCOPED_TRACE(testing::Message() << api.name << " " << size);
      void *aligned = nullptr;
      EXPECT_EQ(api.posix_memalign(&aligned, 64, size), 0);
      void *const blocks[] = {api.malloc(size),
                              api.calloc(1, size),
                              api.realloc(nullptr, size),
                              api.aligned_alloc(64, size),
                              api.memalign(48, size),
                              api.reallocarray(nullptr, 1, size),
                              api.valloc(size),
                              api.pvalloc(size),
                              aligned};
      for (void *block : blocks) {
        ASSERT_NE(block, nullptr);
        ExpectPlace(block, HasOne(api.name) ? kApart : kPlain);
        apart += PlaceOf(block) == kApart;
        free(block);
      }
    }
  }
  EXPECT_GT(apart, 100U);  // most are small
}

TEST_F(Tokens, ANumberBehindTheArgumentsCountsAsThatInTheName) {
  for (const size_t token : {size_t{0}, size_t{1}, size_t{2}, size_t{SIZE_MAX}}) {
    SCOPED_TRACE(token);
    const Place place = token == 1 ? kApart : kPlain;
    int value = 0;
    void *aligned = &value;
    EXPECT_EQ(__alloc_token_posix_memalign(&aligned, 64, 40, token), 0);
    void *const blocks[] = {__alloc_token_malloc(40, token), __alloc_token_calloc(2, 20, token),
                            __alloc_token_realloc(nullptr, 40, token), __alloc_token_memalign(48, 40, token), aligned};
    for (void *block : blocks) {
      ASSERT_NE(block, nullptr);
      ExpectPlace(block, place);
      free(block);
    }
    const std::pair<const char *, void *> of_new[] = {
        {"Znwm", __alloc_token__Znwm(40, token)},
        {"Znam", __alloc_token__Znam12__hot_cold_t(40, HotCold::kHot, token)},
        {"aligned", __alloc_token___size_returning_new_aligned(40, kAlign, token).ptr}};
    for (const auto &[name, block] : of_new) {
      ASSERT_NE(block, nullptr);
      ExpectPlace(block, place);
      Release(name, block);
    }
  }
}

TEST_F(Tokens, ABlockApartOfNewIsNotOneOfMalloc) {
  for (const size_t size : {size_t{0}, size_t{40}, size_t{100000}}) {
    EXPECT_DEATH(free(__alloc_token_1__Znwm(size)), "hakmem: .*new") << size;
    EXPECT_DEATH(operator delete(__alloc_token_1__Znam(size)), "hakmem: .*new") << size;
    EXPECT_DEATH(operator delete(__alloc_token_1_malloc(size)), "hakmem: .*malloc") << size;
  }
}

TEST_F(Tokens, AReallocKeepsTheKind) {
  Random random(TestSeed(1));
  // Through blocks with guard pages of their own, and back.
  constexpr size_t kSizes[] = {1, 30, 100, 3000, 40000, 200};
  for (int round = 0; round < 300; round++) {
    const bool apart = random.OneIn(2);
    void *block = apart ? __alloc_token_1_malloc(50) : malloc(50);
    for (int step = 0; step < 12; step++) {
      const size_t size = kSizes[random.Index(std::size(kSizes))];
      switch (random.Index(4)) {
        case 0:
          block = realloc(block, size);
          break;
        case 1:
          block = __alloc_token_1_realloc(block, size);
          break;
        case 2:
          block = __alloc_token_0_realloc(block, size);
          break;
        default:
          block = hak_aligned_realloc(block, 64, size);
      }
      ASSERT_NE(block, nullptr);
      ExpectPlace(block, apart ? kApart : kPlain);
    }
    free(block);
  }
  // A block of size 0 is in no slab: the call that makes it one of bytes decides.
  void *empty = __alloc_token_1_realloc(malloc(0), 40);
  ExpectPlace(empty, kApart);
  free(empty);
}

struct Held {
  void *block;
  Place place;
};

// Allocates, and frees blocks of any thread.
void Work(uint64_t seed, std::vector<Held> *held) {
  Random random(seed);
  for (int step = 0; step < 6000; step++) {
    Held &one = (*held)[random.Index(held->size())];
    ExpectPlace(one.block, one.place);
    free(one.block);
    const size_t size = 1 + random.Index(random.OneIn(20) ? 30000 : 300);
    const bool apart = random.OneIn(2);
    one = {apart ? __alloc_token_malloc(size, 1) : malloc(size), apart ? kApart : kPlain};
    ASSERT_NE(one.block, nullptr);
    ExpectPlace(one.block, one.place);
    memset(one.block, 1, size);
  }
}

TEST_F(Tokens, BlocksOfEndedThreadsStayApart) {
  Random random(TestSeed(2));
  std::vector<Held> held(2000, Held{nullptr, kPlain});
  // One thread after another frees what the others have allocated, and adopts their slabs.
  for (int round = 0; round < 12; round++) {
    std::thread(Work, random.Next(), &held).join();
    ASSERT_TRUE(hak_heap_verify());
    if (round % 4 == 3) hak_trim(0);
  }
  for (const Held &one : held) free(one.block);
  EXPECT_TRUE(hak_heap_verify());
}

TEST_F(Tokens, RemoteFreesStayApart) {
  Random random(TestSeed(3));
  for (int round = 0; round < 4; round++) {
    std::vector<Held> sets[2] = {std::vector<Held>(800, Held{nullptr, kPlain}),
                                 std::vector<Held>(800, Held{nullptr, kPlain})};
    for (int exchange = 0; exchange < 3; exchange++) {
      std::thread other(Work, random.Next(), &sets[exchange % 2]);
      Work(random.Next(), &sets[1 - exchange % 2]);
      other.join();
    }
    for (const auto &set : sets) {
      for (const Held &one : set) free(one.block);
    }
  }
  EXPECT_TRUE(hak_heap_verify());
}

TEST_F(Tokens, SamplesOfBlocksApart) {
  ASSERT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0"), 0);
  ASSERT_EQ(hak_prof_start(), 0);
  void *block = __alloc_token_1_malloc(77);
  ASSERT_NE(block, nullptr);
  ExpectPlace(block, kApart);
  struct Seen {
    const void *block;
    size_t size;
  } seen = {block, 0};
  const auto see = [](const hak_prof_sample *sample, void *argument) {
    auto *found = static_cast<Seen *>(argument);
    if (sample->address == found->block) found->size = sample->size;
    return 0;
  };
  EXPECT_EQ(hak_prof_visit_live(see, &seen), 0);
  EXPECT_EQ(seen.size, 77U);
  free(block);
  EXPECT_EQ(hak_prof_stop(), 0);
}

TEST_F(Tokens, StatisticsCountBothKindsAsOneSize) {
  // Of a size that nothing else here has.
  const size_t size = 6000;
  void *const blocks[] = {malloc(size), __alloc_token_1_malloc(size)};
  char *text = nullptr;
  size_t length = 0;
  FILE *stream = open_memstream(&text, &length);
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  // Each size stands there once.
  std::vector<std::string> sizes;
  for (const char *at = text; (at = strstr(at, "<size from=")) != nullptr; at++) {
    const char *const end = strstr(at, " to=");
    ASSERT_NE(end, nullptr);
    sizes.emplace_back(at, end);
  }
  const size_t count = sizes.size();
  EXPECT_GT(count, 0U);
  std::sort(sizes.begin(), sizes.end());
  EXPECT_EQ(std::unique(sizes.begin(), sizes.end()), sizes.end());
  free(text);
  for (void *block : blocks) free(block);
}

}  // namespace
}  // namespace hak_test
