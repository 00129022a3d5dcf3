// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "allocator/os/unit_test.h"

namespace {

#if defined(__x86_64__)
constexpr char kName[] = "__vdso_clock_gettime";
#else
constexpr char kName[] = "__kernel_clock_gettime";
#endif

int64_t Nanoseconds(const timespec &time) { return time.tv_sec * INT64_C(1000000000) + time.tv_nsec; }

TEST(Clock, AgreesWithTheCLibrary) {
  for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE}) {
    timespec before;
    timespec after;
    ASSERT_EQ(clock_gettime(clock, &before), 0);
    errno = E2BIG;
    const timespec now = hak_clock_read(clock);
    EXPECT_EQ(errno, E2BIG);
    ASSERT_EQ(clock_gettime(clock, &after), 0);
    EXPECT_GE(Nanoseconds(now), Nanoseconds(before)) << clock;
    EXPECT_LE(Nanoseconds(now), Nanoseconds(after)) << clock;
  }
}

TEST(Clock, AClockThatDoesNotExistIsZero) {
  errno = E2BIG;
  EXPECT_EQ(Nanoseconds(hak_clock_read(12345)), 0);
  EXPECT_EQ(errno, E2BIG);
}

TEST(Find, FindsWhatTheDynamicLinkerFinds) {
  const unsigned long image = getauxval(AT_SYSINFO_EHDR);
  void *library = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (image == 0 || library == nullptr) GTEST_SKIP() << "no vDSO, or the dynamic linker does not show it";
  EXPECT_EQ(hak_clock_find(reinterpret_cast<void *>(image), kName), dlsym(library, kName));
  EXPECT_NE(dlsym(library, kName), nullptr);
  EXPECT_EQ(hak_clock_find(reinterpret_cast<void *>(image), "__vdso_no_such_function"), nullptr);
  EXPECT_EQ(hak_clock_find(reinterpret_cast<void *>(image), ""), nullptr);
}

TEST(Find, NothingInWhatIsNoImage) {
  EXPECT_EQ(hak_clock_find(nullptr, kName), nullptr);
  alignas(8) char text[256] =
      "\x7f"
      "ELF";
  EXPECT_EQ(hak_clock_find(text, kName), nullptr);
  text[0] = 'x';
  EXPECT_EQ(hak_clock_find(text, kName), nullptr);
}

// With a vDSO the clock of ticks never calls the kernel.
TEST(Clock, MakesNoSystemCall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer sees the C library's call";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
  GTEST_SKIP() << "a sanitizer sees the C library's call";
#endif
#endif
  if (hak_clock_find(reinterpret_cast<void *>(getauxval(AT_SYSINFO_EHDR)), kName) == nullptr) {
    GTEST_SKIP() << "no vDSO";
  }
  const auto read = [] {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program = {.len = 4, .filter = filter};
    // If no filter can be set, nothing can be checked.
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      _exit(0);
    }
    _exit(Nanoseconds(hak_clock_read(CLOCK_MONOTONIC_COARSE)) > 0 ? 0 : 1);
  };
  EXPECT_EXIT(read(), testing::ExitedWithCode(0), "");
}

}  // namespace
