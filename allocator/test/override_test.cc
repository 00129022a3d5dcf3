// SPDX-License-Identifier: Apache-2.0
//
// A program linked with the override of the C library: every allocation function is hakmem's, and does what its
// standard says. Built several ways (BUILD.bazel): by cc_test(malloc = ...), as an ordinary dependency, and fully
// static.
//
// googletest itself runs on the override here, so statistics are compared only around single calls.
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <string>
#include <thread>
#include <vector>

// Functions that the C library's headers do not declare, or no longer declare.
extern "C" {
void cfree(void *ptr);
void free_sized(void *ptr, size_t size);
void free_aligned_sized(void *ptr, size_t alignment, size_t size);
}

namespace {

constexpr int kErrnoBefore = 4242;

uint64_t LiveBlocks() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  return hak_stats_get(&stats) == 0 ? stats.live_blocks : UINT64_MAX;
}

// Whether `p` is a block of hakmem: exactly one block more is live than before, and hak_usable_size knows its size.
#define EXPECT_OURS(expression)                                                \
  do {                                                                         \
    const uint64_t before = LiveBlocks();                                      \
    void *const ours = (expression);                                           \
    const uint64_t after = LiveBlocks();                                       \
    EXPECT_EQ(after, before + 1) << #expression;                               \
    ASSERT_NE(ours, nullptr) << #expression;                                   \
    EXPECT_EQ(malloc_usable_size(ours), hak_usable_size(ours)) << #expression; \
    EXPECT_EQ(reinterpret_cast<uintptr_t>(ours) % 16, 0U) << #expression;      \
    free(ours);                                                                \
    EXPECT_EQ(LiveBlocks(), before) << #expression;                            \
  } while (false)

// Keeps the compiler from removing an allocation together with its free.
template <typename T>
T *Hide(T *p) {
  T *volatile hidden = p;
  return hidden;
}
size_t Hide(size_t n) {
  volatile size_t hidden = n;
  return hidden;
}

TEST(InUse, EveryAllocatingFunctionGivesOurBlocks) {
  EXPECT_OURS(malloc(100));
  EXPECT_OURS(malloc(0));
  EXPECT_OURS(malloc(3000000));
  EXPECT_OURS(calloc(10, 10));
  EXPECT_OURS(realloc(nullptr, 100));
  EXPECT_OURS(realloc(malloc(10), 5000));
  EXPECT_OURS(reallocarray(nullptr, 10, 10));
  EXPECT_OURS(aligned_alloc(64, 128));
  EXPECT_OURS(memalign(256, 100));
  EXPECT_OURS(valloc(100));
  EXPECT_OURS(pvalloc(100));
  EXPECT_OURS([] {
    void *p = nullptr;
    return posix_memalign(&p, 128, 100) == 0 ? p : nullptr;
  }());
  EXPECT_OURS(hak_malloc(100));
}

TEST(InUse, LibcAllocatesFromUs) {
  EXPECT_OURS(strdup("a string that has to be somewhere"));
  EXPECT_OURS(strndup("a string that has to be somewhere", 20));
  EXPECT_OURS(wcsdup(L"wide"));
  EXPECT_OURS([] {
    char *text = nullptr;
    return asprintf(&text, "%d and %s", 42, "text") > 0 ? text : nullptr;
  }());
  EXPECT_OURS(realpath("/", nullptr));
  EXPECT_OURS(getcwd(nullptr, 0));
}

TEST(InUse, GetlineGrowsOurBlock) {
  const std::string line(5000, 'x');
  std::string text = line + "\nsecond";
  FILE *file = fmemopen(text.data(), text.size(), "r");
  ASSERT_NE(file, nullptr);
  char *buffer = nullptr;
  size_t capacity = 0;
  ASSERT_EQ(getline(&buffer, &capacity, file), 5001);
  EXPECT_EQ(std::string(buffer, 5000), line);
  EXPECT_GE(hak_usable_size(buffer), capacity);
  EXPECT_EQ(hak_usable_size(buffer), malloc_usable_size(buffer));
  const uint64_t before = LiveBlocks();
  free(buffer);
  EXPECT_EQ(LiveBlocks(), before - 1);
  fclose(file);
}

#ifndef HAK_TEST_STATIC
// The names that libc.so defines too. The linker makes these visible to the program's libraries.
TEST(InUse, SymbolsResolveToTheProgram) {
  Dl_info here = {};
  ASSERT_NE(dladdr(reinterpret_cast<void *>(&hak_malloc), &here), 0);
  for (const char *name : {"malloc", "free", "calloc", "realloc", "aligned_alloc", "posix_memalign", "memalign",
                           "valloc", "pvalloc", "malloc_usable_size", "reallocarray", "malloc_trim", "mallinfo",
                           "malloc_info", "malloc_stats", "mallopt", "_Znwm", "_ZdlPv", "_ZnwmSt11align_val_t"}) {
    void *symbol = dlsym(RTLD_DEFAULT, name);
    ASSERT_NE(symbol, nullptr) << name;
    Dl_info info = {};
    ASSERT_NE(dladdr(symbol, &info), 0) << name;
    EXPECT_EQ(info.dli_fbase, here.dli_fbase) << name << " comes from " << info.dli_fname;
  }
}
#endif

TEST(Calls, EveryWayOfFreeing) {
  const uint64_t before = LiveBlocks();
  free(Hide(malloc(100)));
  cfree(Hide(malloc(100)));
  free_sized(Hide(malloc(100)), 100);
  free_aligned_sized(Hide(aligned_alloc(64, 640)), 64, 640);
  hak_free(Hide(malloc(100)));
  free(nullptr);
  cfree(nullptr);
  free_sized(nullptr, 10);
  free_aligned_sized(nullptr, 16, 16);
  EXPECT_EQ(LiveBlocks(), before);
}

TEST(Calls, AlignmentAndPages) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void *v = valloc(10);
  void *p = pvalloc(page + 1);
  void *m = memalign(1 << 16, 10);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(v) % page, 0U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % page, 0U);
  EXPECT_GE(malloc_usable_size(p), 2 * page);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(m) % (1 << 16), 0U);
  free(v);
  free(p);
  free(m);
  EXPECT_EQ(malloc_usable_size(nullptr), 0U);
}

TEST(Calls, ImpossibleRequestsAreExact) {
  const size_t huge = Hide(SIZE_MAX - 10);
  const size_t half = Hide(SIZE_MAX / 2 + 1);
  const auto refused = [](void *p, int wanted) {
    const int error = errno;
    const bool good = p == nullptr && error == wanted;
    free(p);
    errno = kErrnoBefore;
    return good;
  };
  errno = kErrnoBefore;
  EXPECT_TRUE(refused(malloc(huge), ENOMEM));
  EXPECT_TRUE(refused(calloc(huge, 2), ENOMEM));
  EXPECT_TRUE(refused(calloc(half, 2), ENOMEM));
  EXPECT_TRUE(refused(realloc(nullptr, huge), ENOMEM));
  EXPECT_TRUE(refused(reallocarray(nullptr, half, 2), ENOMEM));
  EXPECT_TRUE(refused(aligned_alloc(64, huge), ENOMEM));
  EXPECT_TRUE(refused(aligned_alloc(Hide(size_t{48}), 96), EINVAL));
  EXPECT_TRUE(refused(aligned_alloc(half, 1), ENOMEM));
  EXPECT_TRUE(refused(memalign(64, huge), ENOMEM));
  EXPECT_TRUE(refused(valloc(huge), ENOMEM));
  EXPECT_TRUE(refused(pvalloc(huge), ENOMEM));
  EXPECT_TRUE(refused(pvalloc(Hide(SIZE_MAX)), ENOMEM));
  void *out = &out;
  EXPECT_EQ(posix_memalign(&out, Hide(size_t{3}), 8), EINVAL);
  EXPECT_EQ(posix_memalign(&out, 64, huge), ENOMEM);
  EXPECT_EQ(out, &out);
  EXPECT_EQ(errno, kErrnoBefore);
}

TEST(Calls, ReallocToZeroFreesAsTheGnuLibraryDoes) {
  const uint64_t before = LiveBlocks();
  void *p = Hide(malloc(100));
  EXPECT_EQ(realloc(p, Hide(size_t{0})), nullptr);
  EXPECT_EQ(LiveBlocks(), before);
}

TEST(Calls, Information) {
  void *p = Hide(malloc(5000000));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo old_info = mallinfo();
#pragma GCC diagnostic pop
  EXPECT_GE(old_info.uordblks + old_info.hblkhd, 5000000);
  free(p);
  const int trimmed = malloc_trim(0);
  EXPECT_TRUE(trimmed == 0 || trimmed == 1) << trimmed;
  // Options of the GNU C library may be accepted or refused, but never cause a failure.
  const int option = mallopt(M_MMAP_THRESHOLD, 1 << 20);
  EXPECT_TRUE(option == 0 || option == 1);

  char *text = nullptr;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  EXPECT_EQ(std::string(text).rfind("<malloc", 0), 0U) << text;
  EXPECT_NE(std::string(text).find("</malloc>"), std::string::npos) << text;
  free(text);
  errno = kErrnoBefore;
  EXPECT_NE(malloc_info(1, stdout), 0);
  EXPECT_EQ(errno, EINVAL);

  testing::internal::CaptureStderr();
  malloc_stats();
  EXPECT_FALSE(testing::internal::GetCapturedStderr().empty());
}

TEST(Calls, AnotherThreadUsesItToo) {
  void *theirs = nullptr;
  std::thread([&theirs] { theirs = malloc(1000); }).join();
  ASSERT_NE(theirs, nullptr);
  EXPECT_GE(hak_usable_size(theirs), 1000U);
  const uint64_t before = LiveBlocks();
  free(theirs);
  EXPECT_EQ(LiveBlocks(), before - 1);
}

}  // namespace
