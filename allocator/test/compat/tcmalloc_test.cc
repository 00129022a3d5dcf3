// SPDX-License-Identifier: Apache-2.0
//
// <hakmem/compat/tcmalloc.h>: both MallocExtension classes against hakmem's own answers.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/compat/tcmalloc.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "allocator/test/probe.h"

namespace {

using hak_test::IsFastBuild;
using hak_test::Stats;
using New = tcmalloc::MallocExtension;

MallocExtension *Old() { return MallocExtension::instance(); }

size_t OldValue(const char *name) {
  size_t value = SIZE_MAX;
  EXPECT_TRUE(Old()->GetNumericProperty(name, &value)) << name;
  return value;
}

// Blocks, cached blocks, free blocks in slabs, and memory that was returned: no statistic is zero.
class Properties : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 40000; i++) blocks_.push_back(hak_malloc(static_cast<size_t>(i % 2000 + 1)));
    std::shuffle(blocks_.begin(), blocks_.end(), std::minstd_rand(1));
    for (int i = 0; i < 20000; i++) FreeLast();
    hak_trim(0);
    for (int i = 0; i < 5000; i++) FreeLast();
  }
  void TearDown() override {
    while (!blocks_.empty()) FreeLast();
  }

 private:
  void FreeLast() {
    hak_free(blocks_.back());
    blocks_.pop_back();
  }
  std::vector<void *> blocks_;
};

// Every name of both families, and no other, has the value of the statistic.
TEST_F(Properties, AreStatistics) {
  const hak_stats stats = Stats();
  ASSERT_GT(stats.mapped_bytes, stats.committed_bytes);
  ASSERT_GT(stats.cached_bytes, 0U);
  ASSERT_GT(stats.heap_free_bytes, 0U);
  const std::map<std::string, uint64_t> wanted = {
      {"generic.bytes_in_use_by_app", stats.live_bytes},
      {"generic.current_allocated_bytes", stats.live_bytes},
      {"generic.heap_size", stats.mapped_bytes},
      {"generic.physical_memory_used", stats.committed_bytes},
      {"generic.total_physical_bytes", stats.committed_bytes},
      {"generic.virtual_memory_used", stats.mapped_bytes},
      {"tcmalloc.central_cache_free", stats.heap_free_bytes},
      {"tcmalloc.central_cache_free_bytes", stats.heap_free_bytes},
      {"tcmalloc.current_total_thread_cache_bytes", stats.cached_bytes},
      {"tcmalloc.metadata_bytes", stats.metadata_bytes},
      {"tcmalloc.page_heap_unmapped", stats.mapped_bytes - stats.committed_bytes},
      {"tcmalloc.pageheap_unmapped_bytes", stats.mapped_bytes - stats.committed_bytes},
      {"tcmalloc.thread_cache_free", stats.cached_bytes},
      {"tcmalloc.thread_cache_free_bytes", stats.cached_bytes},
  };
  for (const auto &[name, value] : wanted) {
    EXPECT_EQ(OldValue(name.c_str()), value) << name;
    const uint64_t other = name == "generic.heap_size" ? stats.committed_bytes : value;
    EXPECT_EQ(New::GetNumericProperty(name), std::optional<size_t>(other)) << name;
  }
  const std::map<std::string, New::Property> all = New::GetProperties();
  EXPECT_EQ(all.size(), wanted.size());
  for (const auto &[name, property] : all) {
    ASSERT_EQ(wanted.count(name), 1U) << name;
    EXPECT_EQ(property.value, name == "generic.heap_size" ? stats.committed_bytes : wanted.at(name)) << name;
  }
}

TEST_F(Properties, OthersAreUnknown) {
  for (const char *name :
       {"", "generic", "generic.heap_siz", "generic.heap_sizes", "Generic.heap_size", "tcmalloc.pageheap_free_bytes",
        "tcmalloc.max_total_thread_cache_byte", "tcmalloc.transfer_cache_free_bytes", "tcmalloc.slack_bytes"}) {
    size_t value = 77;
    EXPECT_FALSE(Old()->GetNumericProperty(name, &value)) << name;
    EXPECT_EQ(value, 77U) << name;
    EXPECT_EQ(New::GetNumericProperty(name), std::nullopt) << name;
  }
  // A name need not end with a zero byte.
  const std::string longer = "generic.heap_size!";
  EXPECT_TRUE(New::GetNumericProperty(std::string_view(longer).substr(0, longer.size() - 1)).has_value());
}

TEST(Limit, IsThatOfTheSetting) {
  EXPECT_EQ(OldValue("tcmalloc.heap_limit_mb"), 0U);
  EXPECT_EQ(New::GetNumericProperty("tcmalloc.heap_limit_mb"), std::nullopt);
  if (IsFastBuild()) {
    EXPECT_FALSE(Old()->SetNumericProperty("tcmalloc.heap_limit_mb", 100));
    EXPECT_EQ(OldValue("tcmalloc.heap_limit_mb"), 0U);
    return;
  }
  ASSERT_TRUE(Old()->SetNumericProperty("tcmalloc.heap_limit_mb", 120));
  EXPECT_EQ(OldValue("tcmalloc.heap_limit_mb"), 120U);
  EXPECT_STREQ(hak_config_get("HAKMEM_MEMORY_LIMIT_MB", nullptr), "120");
  errno = 0;
  EXPECT_EQ(tc_malloc(size_t{200} << 20), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  // Not accepted: the limit stays.
  EXPECT_FALSE(Old()->SetNumericProperty("tcmalloc.heap_limit_mb", SIZE_MAX));
  EXPECT_EQ(OldValue("tcmalloc.heap_limit_mb"), 120U);
  ASSERT_TRUE(Old()->SetNumericProperty("tcmalloc.heap_limit_mb", 0));
  EXPECT_EQ(OldValue("tcmalloc.heap_limit_mb"), 0U);
  void *const block = tc_malloc(size_t{200} << 20);
  EXPECT_NE(block, nullptr);
  tc_free(block);
}

TEST(Limit, EachKindIsASettingOfItsOwn) {
  using Kind = New::LimitKind;
  const auto setting = [](Kind kind) {
    return std::string(
        hak_config_get(kind == Kind::kSoft ? "HAKMEM_SOFT_LIMIT_MB" : "HAKMEM_MEMORY_LIMIT_MB", nullptr));
  };
  for (const Kind kind : {Kind::kSoft, Kind::kHard}) {
    const Kind other = kind == Kind::kSoft ? Kind::kHard : Kind::kSoft;
    EXPECT_EQ(New::GetMemoryLimit(kind), SIZE_MAX);
    New::SetMemoryLimit((size_t{120} << 20) + 1048575, kind);
    EXPECT_EQ(New::GetMemoryLimit(other), SIZE_MAX);
    EXPECT_EQ(setting(other), "0");
    if (IsFastBuild()) {
      EXPECT_EQ(New::GetMemoryLimit(kind), SIZE_MAX);
      continue;
    }
    EXPECT_EQ(New::GetMemoryLimit(kind), size_t{120} << 20);
    EXPECT_EQ(setting(kind), "120");
    // The hard limit refuses, and the soft one does not.
    errno = 0;
    void *const block = tc_malloc(size_t{200} << 20);
    EXPECT_EQ(block == nullptr, kind == Kind::kHard);
    EXPECT_EQ(errno, kind == Kind::kHard ? ENOMEM : 0);
    tc_free(block);
    // The most that the setting accepts, and more.
    New::SetMemoryLimit(size_t{1} << 50, kind);
    EXPECT_EQ(New::GetMemoryLimit(kind), size_t{1} << 50);
    New::SetMemoryLimit((size_t{1} << 50) + (size_t{1} << 20), kind);
    EXPECT_EQ(New::GetMemoryLimit(kind), SIZE_MAX);
    New::SetMemoryLimit(size_t{120} << 20, kind);
    // Below what is in use: a soft limit may be, a hard one is not accepted.
    New::SetMemoryLimit(0, kind);
    EXPECT_EQ(New::GetMemoryLimit(kind), size_t{kind == Kind::kSoft ? 1U : 120U} << 20);
    New::SetMemoryLimit(SIZE_MAX, kind);
    EXPECT_EQ(New::GetMemoryLimit(kind), SIZE_MAX);
    EXPECT_EQ(setting(kind), "0");
  }
}

TEST(Limit, OfAllThreadCachesIsThatOfTheSetting) {
  constexpr const char *kName = "tcmalloc.max_total_thread_cache_bytes";
  EXPECT_EQ(OldValue(kName), 0U);
  EXPECT_EQ(New::GetMaxTotalThreadCacheBytes(), 0);
  EXPECT_EQ(New::GetNumericProperty(kName), std::nullopt);
  EXPECT_EQ(Old()->SetNumericProperty(kName, size_t{8} << 20), !IsFastBuild());
  if (IsFastBuild()) {
    New::SetMaxTotalThreadCacheBytes(1 << 20);
    EXPECT_EQ(New::GetMaxTotalThreadCacheBytes(), 0);
    return;
  }
  EXPECT_STREQ(hak_config_get("HAKMEM_TOTAL_THREAD_CACHE_KB", nullptr), "8192");
  EXPECT_EQ(OldValue(kName), size_t{8} << 20);
  New::SetMaxTotalThreadCacheBytes((int64_t{3} << 20) + 1023);
  EXPECT_EQ(New::GetMaxTotalThreadCacheBytes(), int64_t{3} << 20);
  // No cache at all, as far as hakmem has that; and what it does not accept.
  for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1023}}) {
    New::SetMaxTotalThreadCacheBytes(int64_t{3} << 20);
    New::SetMaxTotalThreadCacheBytes(value);
    EXPECT_EQ(New::GetMaxTotalThreadCacheBytes(), 1024) << value;
  }
  New::SetMaxTotalThreadCacheBytes(INT64_MAX);
  EXPECT_FALSE(Old()->SetNumericProperty(kName, SIZE_MAX));
  EXPECT_EQ(OldValue(kName), 1024U);
  EXPECT_EQ(hak_config_set("HAKMEM_TOTAL_THREAD_CACHE_KB", "0"), 0);
  EXPECT_EQ(OldValue(kName), 0U);
}

TEST(Limit, NothingElseCanBeSet) {
  for (const char *name : {"", "generic.heap_size", "tcmalloc.min_per_thread_cache_bytes", "HAKMEM_PROFILE"}) {
    EXPECT_FALSE(Old()->SetNumericProperty(name, 1)) << name;
  }
}

// Frees 32 MiB of small blocks in another thread, and returns by how many bytes the call lowered the committed memory.
template <typename Call>
uint64_t Returned(Call call) {
  std::thread([] {
    std::vector<void *> blocks;
    for (int i = 0; i < 32768; i++) {
      blocks.push_back(hak_malloc(1000));
      memset(blocks.back(), 1, 1000);
    }
    for (void *block : blocks) hak_free(block);
  }).join();
  const uint64_t before = Stats().committed_bytes;
  call();
  return before - Stats().committed_bytes;
}

TEST(Release, ReturnsWhatIsFree) {
  if (!IsFastBuild()) {
    // Nothing but the call returns memory.
    ASSERT_EQ(hak_config_set("HAKMEM_DECOMMIT_DEADLINE_MS", "3600000"), 0);
    ASSERT_EQ(hak_config_set("HAKMEM_MAPPING_CACHE_KB", "1048576"), 0);
  }
  EXPECT_EQ(Returned([] { Old()->ReleaseToSystem(0); }), 0U);
  EXPECT_EQ(Returned([] { EXPECT_EQ(New::ReleaseMemoryToSystem(0), 0U); }), 0U);
  Old()->ReleaseFreeMemory();
  const uint64_t kept = Stats().pool_free_bytes;
  EXPECT_EQ(kept, 0U);
  if (IsFastBuild()) return;
  EXPECT_GE(Returned([] { Old()->ReleaseToSystem(size_t{4} << 20); }), uint64_t{4} << 20);
  EXPECT_GE(Stats().pool_free_bytes, uint64_t{8} << 20);
  size_t said = 0;
  EXPECT_GE(Returned([&said] { said = New::ReleaseMemoryToSystem(size_t{8} << 20); }), uint64_t{8} << 20);
  EXPECT_GE(said, size_t{8} << 20);
  EXPECT_GE(Stats().pool_free_bytes, uint64_t{8} << 20);
  (void)New::ReleaseMemoryToSystem(SIZE_MAX);
  EXPECT_EQ(Stats().pool_free_bytes, 0U);
}

TEST(Threads, AnIdleOneHasNoCache) {
  void (*const calls[])() = {[] { Old()->MarkThreadIdle(); }, [] { Old()->MarkThreadTemporarilyIdle(); },
                             [] { New::MarkThreadIdle(); }};
  for (const auto call : calls) {
    for (int i = 0; i < 100; i++) hak_free(hak_malloc(static_cast<size_t>(i) * 16 + 1));
    EXPECT_GT(Stats().cached_blocks, 0U);
    call();
    EXPECT_EQ(Stats().cached_blocks, 0U);
    // It may go on without a word, and with one.
    hak_free(hak_malloc(100));
    Old()->MarkThreadBusy();
    New::MarkThreadBusy();
    hak_free(hak_malloc(100));
  }
}

TEST(Sizes, AreUsableSizes) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{5000}, size_t{40000}, size_t{5} << 20}) {
    void *const block = tc_malloc(size);
    ASSERT_NE(block, nullptr);
    const size_t usable = hak_usable_size(block);
    EXPECT_EQ(Old()->GetEstimatedAllocatedSize(size), hak_good_size(size));
    EXPECT_EQ(New::GetEstimatedAllocatedSize(size), hak_good_size(size));
    EXPECT_GE(usable, hak_good_size(size));
    EXPECT_EQ(Old()->GetAllocatedSize(block), usable);
    EXPECT_EQ(New::GetAllocatedSize(block), std::optional<size_t>(usable));
    EXPECT_EQ(tc_malloc_size(block), usable);
    tc_free_sized(block, size);
    EXPECT_EQ(tc_nallocx(size, 0), hak_good_size(size != 0 ? size : 1));
  }
  EXPECT_EQ(Old()->GetAllocatedSize(nullptr), 0U);
  EXPECT_EQ(New::GetAllocatedSize(nullptr), std::optional<size_t>(0));
  EXPECT_EQ(Old()->GetEstimatedAllocatedSize(SIZE_MAX), 0U);
  EXPECT_EQ(tc_nallocx(SIZE_MAX, 0), 0U);
  EXPECT_EQ(nallocx(1000, MALLOCX_LG_ALIGN(6)), tc_nallocx(1000, MALLOCX_LG_ALIGN(6)));
}

TEST(Ownership, IsKnown) {
  void *const own = hak_malloc(100);
  void *const other = malloc(100);
  EXPECT_EQ(Old()->GetOwnership(own), MallocExtension::kOwned);
  EXPECT_EQ(New::GetOwnership(own), New::Ownership::kOwned);
  for (const void *p : {static_cast<const void *>(nullptr), static_cast<const void *>(other)}) {
    EXPECT_EQ(Old()->GetOwnership(p), MallocExtension::kNotOwned);
    EXPECT_EQ(New::GetOwnership(p), New::Ownership::kNotOwned);
  }
  free(other);
  hak_free(own);
}

TEST(Functions, AreHakmems) {
  MallocExtension::Initialize();
  EXPECT_EQ(Old(), MallocExtension::instance());
  const uint64_t live = Stats().live_blocks;
  void *block = tc_calloc(10, 10);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(std::string(100, '\0'), std::string(static_cast<char *>(block), 100));
  memset(block, 'x', 100);
  block = tc_realloc(block, 9000);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(std::string(100, 'x'), std::string(static_cast<char *>(block), 100));
  EXPECT_EQ(Stats().live_blocks, live + 1);
  EXPECT_EQ(tc_realloc(block, 0), nullptr);
  EXPECT_EQ(Stats().live_blocks, live);
  for (size_t alignment = sizeof(void *); alignment <= size_t{4} << 20; alignment *= 2) {
    void *aligned = tc_memalign(alignment, 100);
    ASSERT_NE(aligned, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % alignment, 0U);
    tc_free(aligned);
    ASSERT_EQ(tc_posix_memalign(&aligned, alignment, 100), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(aligned) % alignment, 0U);
    sdallocx(aligned, 100, MALLOCX_ALIGN(alignment));
  }
  void *untouched = &block;
  EXPECT_EQ(tc_posix_memalign(&untouched, 3, 100), EINVAL);
  EXPECT_EQ(untouched, &block);
  volatile size_t count = SIZE_MAX / 2;
  EXPECT_EQ(tc_calloc(count, 3), nullptr);
  EXPECT_EQ(Stats().live_blocks, live);
  EXPECT_TRUE(Old()->VerifyAllMemory());
}

// A program that uses what hakmem has not does not compile.
template <typename Class, typename = void>
struct HasSampling : std::false_type {};
template <typename Class>
struct HasSampling<Class, std::void_t<decltype(&Class::GetHeapSample)>> : std::true_type {};
template <typename Class, typename = void>
struct HasCpuCacheLimit : std::false_type {};
template <typename Class>
struct HasCpuCacheLimit<Class, std::void_t<decltype(&Class::SetMaxPerCpuCacheSize)>> : std::true_type {};
template <typename Class, typename = void>
struct HasRelease : std::false_type {};
template <typename Class>
struct HasRelease<Class, std::void_t<decltype(&Class::ReleaseMemoryToSystem)>> : std::true_type {};

TEST(Absent, WhatHakmemHasNot) {
  EXPECT_FALSE(HasSampling<MallocExtension>::value || HasSampling<New>::value);
  EXPECT_FALSE(HasCpuCacheLimit<MallocExtension>::value || HasCpuCacheLimit<New>::value);
  EXPECT_TRUE(HasRelease<New>::value);  // The question can be answered by yes.
}

}  // namespace
