// SPDX-License-Identifier: Apache-2.0
//
// A process chooses the form of its slab map once, so each case runs in its own child process.
#include "allocator/slab/slab_map.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

// Only addresses: the map does not touch the memory that it describes.
const char *At(uintptr_t address) { return reinterpret_cast<const char *>(address); }

constexpr uintptr_t kTop = HAK_GRANULE_COUNT << HAK_SLAB_SHIFT;  // first address beyond the map
constexpr uintptr_t kLeaf = uintptr_t{1} << 32;                  // addresses of one leaf

// The first address of the window; 0 without a window.
uintptr_t WindowStart() { return hak_slab_map_base << HAK_SLAB_SHIFT; }
// The first of many addresses outside the window. The window may begin at the start of the address space.
uintptr_t Outside() { return WindowStart() >= HAK_WINDOW_SIZE ? 0 : WindowStart() + HAK_WINDOW_SIZE; }

// What free() sees: the inline answer if there is one.
uint32_t Inline(const void *address) {
  const uintptr_t granule = hak_slab_map_granule(address);
  return hak_slab_map_covers(granule) ? static_cast<uint32_t>(hak_slab_map_class(granule)) : HAK_CLASS_NONE;
}

void ExpectEntry(uintptr_t address, uint32_t class_id) {
  EXPECT_EQ(hak_slab_map_find(At(address)), class_id) << std::hex << address;
  const bool inside = address - WindowStart() < HAK_WINDOW_SIZE;
  EXPECT_EQ(hak_slab_map_covers(hak_slab_map_granule(At(address))),
            hak_slab_map_is_flat() ? inside : address < HAK_SLAB_SIZE)
      << std::hex << address;
  EXPECT_EQ(Inline(At(address)), hak_slab_map_is_flat() && inside ? class_id : HAK_CLASS_NONE) << std::hex << address;
  EXPECT_EQ(hak_slab_map_look_up(At(address)), class_id) << std::hex << address;
}

const uintptr_t kNowhere[] = {0,
                              1,
                              HAK_SLAB_SIZE,
                              kLeaf,
                              kTop - 1,
                              kTop,
                              kTop + 1,
                              UINTPTR_MAX,
                              UINTPTR_MAX >> 1,
                              ~(UINTPTR_MAX >> 1),
                              uintptr_t{1} << HAK_ADDRESS_BITS,
                              uintptr_t{0x123456789abc}};

void ExpectNothingAnywhere() {
  for (const uintptr_t address : kNowhere) ExpectEntry(address, HAK_CLASS_NONE);
  for (const uintptr_t edge : {WindowStart(), WindowStart() + HAK_WINDOW_SIZE}) {
    ExpectEntry(edge - 1, HAK_CLASS_NONE);
    ExpectEntry(edge, HAK_CLASS_NONE);
  }
}

// Superslabs at all edges of the map, compared with a model of the entries that were set.
void ExpectWorks() {
  ExpectNothingAnywhere();
  Random random(11);
  std::map<uintptr_t, uint32_t> model;
  std::vector<uintptr_t> superslabs = {HAK_SUPERSLAB_SIZE, kLeaf - HAK_SUPERSLAB_SIZE, kLeaf, kTop / 2,
                                       kTop - HAK_SUPERSLAB_SIZE};
  // Both sides of both ends of the window, and some addresses inside.
  const uintptr_t end = WindowStart() + HAK_WINDOW_SIZE;
  for (const uintptr_t at : {WindowStart(), WindowStart() - HAK_SUPERSLAB_SIZE, end - HAK_SUPERSLAB_SIZE, end}) {
    if (at != 0 && at < kTop) superslabs.push_back(at);
  }
  for (int i = 0; i < 10; i++) {
    const uintptr_t at = (WindowStart() + random.Next() % HAK_WINDOW_SIZE) & ~(HAK_SUPERSLAB_SIZE - 1);
    if (at != 0 && at < kTop) superslabs.push_back(at);
  }
  for (int i = 0; i < 40; i++) superslabs.push_back((random.Next() % kTop) & ~(HAK_SUPERSLAB_SIZE - 1));
  for (const uintptr_t superslab : superslabs) {
    ASSERT_TRUE(hak_slab_map_cover(At(superslab)));
    ASSERT_TRUE(hak_slab_map_cover(At(superslab))) << "covered already";
    ExpectEntry(superslab + 5 * HAK_SLAB_SIZE, model.count(superslab / HAK_SLAB_SIZE + 5) != 0
                                                   ? model[superslab / HAK_SLAB_SIZE + 5]
                                                   : HAK_CLASS_NONE);
    for (int i = 0; i < 20; i++) {
      const uint32_t first = random.Below(HAK_SLABS_PER_SUPERSLAB);
      const uint32_t count = 1 + random.Below(HAK_SLABS_PER_SUPERSLAB - first);
      const uint32_t class_id = random.Below(HAK_CLASS_COUNT);
      hak_slab_map_set(At(superslab + first * HAK_SLAB_SIZE), count, class_id);
      for (uint32_t j = first; j < first + count; j++) model[superslab / HAK_SLAB_SIZE + j] = class_id;
    }
  }
  for (const auto &[granule, class_id] : model) {
    ExpectEntry(granule * HAK_SLAB_SIZE, class_id);
    ExpectEntry(granule * HAK_SLAB_SIZE + random.Below(HAK_SLAB_SIZE), class_id);
    ExpectEntry(granule * HAK_SLAB_SIZE + HAK_SLAB_SIZE - 1, class_id);
    if (model.count(granule + 1) == 0) ExpectEntry((granule + 1) * HAK_SLAB_SIZE, HAK_CLASS_NONE);
    if (model.count(granule - 1) == 0) ExpectEntry((granule - 1) * HAK_SLAB_SIZE, HAK_CLASS_NONE);
  }
  EXPECT_FALSE(hak_slab_map_cover(At(kTop)));
  EXPECT_FALSE(hak_slab_map_cover(At(UINTPTR_MAX & ~(HAK_SUPERSLAB_SIZE - 1))));
  ExpectEntry(0, HAK_CLASS_NONE);
  ExpectEntry(kTop, HAK_CLASS_NONE);
  ExpectEntry(UINTPTR_MAX, HAK_CLASS_NONE);
}

void Init(hak_slab_map_form form, bool want_flat) {
  hak_slab_map_init(form);
  EXPECT_EQ(hak_slab_map_is_flat(), want_flat);
}

// Limits the address space while the map is initialised.
void InitLimited(hak_slab_map_form form, rlim_t limit, bool want_flat) {
  struct rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old), 0);
  struct rlimit limited = old;
  limited.rlim_cur = limit;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limited), 0);
  hak_slab_map_init(form);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &old), 0);
  EXPECT_EQ(hak_slab_map_is_flat(), want_flat);
}

TEST(SlabMap, BeforeInitialisationEveryEntryIsNothing) {
  HAK_EXPECT_PASSES_IN_CHILD({
    EXPECT_FALSE(hak_slab_map_is_flat());
    ExpectNothingAnywhere();
  });
}

TEST(SlabMap, Flat) {
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_FLAT, true);
    ExpectWorks();
  });
}

TEST(SlabMap, TwoLevels) {
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_TWO_LEVEL, false);
    ExpectWorks();
  });
}

TEST(SlabMap, AutoIsFlatUnlessTheAddressSpaceIsLimited) {
  if (hak_os_address_space_limit() == UINT64_MAX) {
    HAK_EXPECT_PASSES_IN_CHILD({
      Init(HAK_SLAB_MAP_AUTO, true);
      ExpectWorks();
    });
  }
  if (!hak_unit::LimitsAddressSpace()) GTEST_SKIP() << "this kernel or emulator keeps no limit on the address space";
  HAK_EXPECT_PASSES_IN_CHILD({
    InitLimited(HAK_SLAB_MAP_AUTO, rlim_t{1} << 29, false);
    ExpectWorks();
  });
  // A limit that is large compared with the reservation does not count as a limit. A sanitizer has used more than that
  // already.
  if (HAK_UNIT_SLOW_BUILD) return;
  HAK_EXPECT_PASSES_IN_CHILD({
    InitLimited(HAK_SLAB_MAP_AUTO, rlim_t{16} << 30, true);
    ExpectWorks();
  });
}

TEST(SlabMap, TwoLevelsWhenTheKernelRefusesTheReservation) {
  if (hak_unit::LimitsAddressSpace()) {
    HAK_EXPECT_PASSES_IN_CHILD({
      InitLimited(HAK_SLAB_MAP_FLAT, rlim_t{1} << 20, false);
      ExpectWorks();
    });
  }
  HAK_EXPECT_PASSES_IN_CHILD({
    {
      const FaultPlan plan(HAK_FAULT_MAP, 1, 1);
      Init(HAK_SLAB_MAP_FLAT, false);
    }
    ExpectWorks();
  });
}

// Covering may fail; then nothing is left behind, and it works later.
void ExpectCoverCanFail(uint32_t kind, uintptr_t from) {
  const char *superslab = At(from + 7 * kLeaf + 3 * HAK_SUPERSLAB_SIZE);
  {
    const FaultPlan plan(kind);
    EXPECT_FALSE(hak_slab_map_cover(superslab));
    EXPECT_EQ(hak_fault_hits(), 1u);
  }
  ExpectEntry(reinterpret_cast<uintptr_t>(superslab), HAK_CLASS_NONE);
  ASSERT_TRUE(hak_slab_map_cover(superslab));
  hak_slab_map_set(superslab, 1, 9);
  ExpectEntry(reinterpret_cast<uintptr_t>(superslab), 9);
  // Other superslabs of the same leaf cost no call.
  const FaultPlan plan(HAK_FAULT_ALL);
  EXPECT_TRUE(hak_slab_map_cover(superslab + HAK_SUPERSLAB_SIZE));
  EXPECT_EQ(hak_fault_hits(), 0u);
}

TEST(SlabMap, CoveringMayFail) {
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_FLAT, true);
    ExpectCoverCanFail(HAK_FAULT_COMMIT, WindowStart());
  });
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_FLAT, true);
    ExpectCoverCanFail(HAK_FAULT_MAP, Outside());
  });
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_TWO_LEVEL, false);
    ExpectCoverCanFail(HAK_FAULT_MAP, 0);
  });
}

// The flat form reserves addresses, and commits at most one leaf for each 4 GiB in use.
TEST(SlabMap, TheFlatFormTakesHardlyAnyMemory) {
  HAK_EXPECT_PASSES_IN_CHILD({
    const uint64_t mapped = hak_os_totals().mapped;
    Init(HAK_SLAB_MAP_FLAT, true);
    EXPECT_EQ(hak_os_totals().mapped, mapped);
    ASSERT_TRUE(hak_slab_map_cover(At(WindowStart() + kLeaf)));
    hak_slab_map_set(At(WindowStart() + kLeaf), 32, 5);
    EXPECT_LE(hak_unit::ResidentPages(hak_slab_map_flat, HAK_SLAB_MAP_BYTES), 1u);
  });
}

// The next mapping lies in the window, wherever the kernel puts it.
TEST(SlabMap, TheWindowIsWhereTheKernelMaps) {
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_FLAT, true);
    for (int i = 0; i < 100; i++) {
      const void *memory = hak_os_map(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE);
      ASSERT_NE(memory, nullptr);
      EXPECT_TRUE(hak_slab_map_covers(hak_slab_map_granule(memory))) << memory;
    }
  });
}

// Readers need no lock: checked by the thread sanitizer, and by looking for torn or wrong entries.
TEST(SlabMap, ReadersGoOnWhileEntriesAreWritten) {
  HAK_EXPECT_PASSES_IN_CHILD({
    Init(HAK_SLAB_MAP_TWO_LEVEL, false);
    ASSERT_TRUE(hak_slab_map_cover(At(kLeaf)));
    hak_slab_map_set(At(kLeaf), 1, 42);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (int t = 0; t < 2; t++) {
      readers.emplace_back([&] {
        while (!stop) {
          if (hak_slab_map_find(At(kLeaf)) != 42) wrong++;
          const uint32_t other = hak_slab_map_find(At(9 * kLeaf + HAK_SLAB_SIZE));
          if (other != HAK_CLASS_NONE && other != 7) wrong++;
        }
      });
    }
    for (uintptr_t i = 2; i < 60; i++) {
      ASSERT_TRUE(hak_slab_map_cover(At(i * kLeaf)));
      hak_slab_map_set(At(i * kLeaf), 32, 7);
    }
    stop = true;
    for (std::thread &reader : readers) reader.join();
    EXPECT_EQ(wrong.load(), 0);
  });
}

}  // namespace
