// SPDX-License-Identifier: Apache-2.0
//
// What of a stack is read, and that nothing else is.
#include "allocator/prof/stack_view.h"

#include <pthread.h>

#include "allocator/os/readable.h"
#include "allocator/os/unit_test.h"

namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// Three readable pages between two that are not.
class Pages {
 public:
  Pages() {
    all_ = static_cast<char *>(mmap(nullptr, 5 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(mprotect(all_ + kPage, 3 * kPage, PROT_READ | PROT_WRITE), 0);
    for (uintptr_t at = start(); at < end(); at += sizeof at) *reinterpret_cast<uintptr_t *>(at) = at;
  }
  ~Pages() { munmap(all_, 5 * kPage); }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  uintptr_t start() const { return reinterpret_cast<uintptr_t>(all_ + kPage); }
  uintptr_t end() const { return reinterpret_cast<uintptr_t>(all_ + 4 * kPage); }

 private:
  char *all_;
};

TEST(StackViewTest, KernelSaysWhatCanBeRead) {
  const Pages pages;
  errno = 77;
  EXPECT_TRUE(hak_os_is_readable(reinterpret_cast<void *>(pages.start())));
  EXPECT_TRUE(hak_os_is_readable(reinterpret_cast<void *>(pages.end() - 8)));
  EXPECT_FALSE(hak_os_is_readable(reinterpret_cast<void *>(pages.end())));
  EXPECT_FALSE(hak_os_is_readable(reinterpret_cast<void *>(pages.start() - 8)));
  EXPECT_FALSE(hak_os_is_readable(nullptr));
  EXPECT_EQ(errno, 77);
  sigset_t before = {};
  sigset_t after = {};  // The kernel fills in a part of it.
  sigprocmask(SIG_BLOCK, nullptr, &before);
  memset(reinterpret_cast<void *>(pages.start()), 0xff, 8);
  EXPECT_TRUE(hak_os_is_readable(reinterpret_cast<void *>(pages.start())));
  sigprocmask(SIG_BLOCK, nullptr, &after);
  EXPECT_EQ(memcmp(&before, &after, sizeof before), 0) << "the mask stays";
}

TEST(StackViewTest, ReadsUpToTheFirstClosedPage) {
  const Pages pages;
  hak_stack_view view;
  const uintptr_t sp = pages.start() + 64;
  ASSERT_TRUE(hak_stack_view_open(&view, sp, true));
  uintptr_t word = 0;
  for (uintptr_t at = sp; at < pages.end(); at += sizeof at) {
    ASSERT_TRUE(hak_stack_read(&view, at, &word));
    ASSERT_EQ(word, at);
  }
  EXPECT_FALSE(hak_stack_read(&view, pages.end(), &word));
  EXPECT_FALSE(hak_stack_read(&view, sp - 8, &word)) << "below the frame";
  EXPECT_FALSE(hak_stack_read(&view, sp + 4, &word)) << "not aligned";
  EXPECT_FALSE(hak_stack_read(&view, UINTPTR_MAX - 7, &word));
  EXPECT_FALSE(hak_stack_read(&view, 0, &word));
}

TEST(StackViewTest, JumpsOverNoClosedPage) {
  const Pages pages;
  ASSERT_EQ(mprotect(reinterpret_cast<void *>(pages.start() + kPage), kPage, PROT_NONE), 0);
  hak_stack_view view;
  ASSERT_TRUE(hak_stack_view_open(&view, pages.start(), true));
  uintptr_t word = 0;
  EXPECT_FALSE(hak_stack_read(&view, pages.start() + 2 * kPage, &word)) << "readable, but of another mapping";
  EXPECT_TRUE(hak_stack_read(&view, pages.start() + kPage - 8, &word));
}

// Such as the program's name, at which the first thread's stack ends.
TEST(StackViewTest, EndsWithAWholeWordWhateverEndsIt) {
  const Pages pages;
  for (uintptr_t sp = pages.start(); sp < pages.start() + 16; sp++) {
    hak_stack_view view;
    ASSERT_TRUE(hak_stack_view_open(&view, sp, true));
    EXPECT_EQ(view.limit % sizeof sp, 0u) << sp - pages.start();
  }
}

TEST(StackViewTest, UnknownPlaceIsLookedAtFirst) {
  const Pages pages;
  hak_stack_view view;
  EXPECT_TRUE(hak_stack_view_open(&view, pages.start() + 8, false));
  EXPECT_FALSE(hak_stack_view_open(&view, pages.end() + 8, false));
  EXPECT_FALSE(hak_stack_view_open(&view, 0, false));
  EXPECT_FALSE(hak_stack_view_open(&view, UINTPTR_MAX - 7, false));
}

// The thread's own record lies at the end of its stack.
void *LookAtOwnStack(void *) {
  hak_stack_view view;
  EXPECT_TRUE(hak_stack_view_open(&view, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), true));
  pthread_attr_t attributes;
  void *start;
  size_t size;
  EXPECT_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
  pthread_attr_getstack(&attributes, &start, &size);
  pthread_attr_destroy(&attributes);
  EXPECT_GT(view.limit, view.low);
  EXPECT_LE(view.limit, reinterpret_cast<uintptr_t>(start) + size);
  return nullptr;
}

TEST(StackViewTest, EndsWithTheThreadsStack) {
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, nullptr, LookAtOwnStack, nullptr), 0);
  pthread_join(thread, nullptr);
}

// The kernel puts the program's arguments there.
TEST(StackViewTest, FirstThreadsStackIsReadableToItsEnd) {
  hak_stack_view view;
  ASSERT_TRUE(hak_stack_view_open(&view, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), true));
  uintptr_t word;
  EXPECT_LT(view.limit - view.low, 16u << 20) << "the end is known";
  EXPECT_TRUE(hak_stack_read(&view, view.limit - sizeof word, &word));
  EXPECT_FALSE(hak_stack_read(&view, view.limit, &word));
}

}  // namespace
