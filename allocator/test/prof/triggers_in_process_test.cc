// SPDX-License-Identifier: Apache-2.0
//
// HAKMEM_DUMP_SIGNAL at moments that a script cannot choose: a signal while the thread holds a lock of the allocator or
// writes a profile, growth while one is written, and a fork while another is. The BUILD file sets
// HAKMEM_DUMP_SIGNAL=SIGUSR2 and HAKMEM_PROF_DUMP_GROWTH_MB=64.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "allocator/os/lock.h"

namespace {

void Allocate() {
  void *block = hak_malloc(100);
  EXPECT_NE(block, nullptr);
  hak_free(block);
}

class Triggers : public testing::Test {
 protected:
  // In a folder of its own.
  Triggers() {
    std::string pattern = std::string(getenv("TEST_TMPDIR")) + "/triggers.XXXXXX";
    EXPECT_NE(mkdtemp(&pattern[0]), nullptr);
    EXPECT_EQ(chdir(pattern.c_str()), 0);
    EXPECT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0"), 0);
    EXPECT_EQ(hak_prof_start(), 0);
    Allocate();
  }
  ~Triggers() override { hak_prof_stop(); }

  // How many profiles of this process there are. The numbers rise, and the tests before this one have used some.
  static int Files() {
    int files = 0;
    for (int number = 0; number < 1000; number++) {
      const std::string name = "hakmem." + std::to_string(getpid()) + "." + std::to_string(number) + ".pb.gz";
      files += access(name.c_str(), F_OK) == 0;
    }
    return files;
  }
};

TEST_F(Triggers, TheHandlerWritesAtOnce) {
  errno = 77;
  ASSERT_EQ(raise(SIGUSR2), 0);
  EXPECT_EQ(errno, 77);
  EXPECT_EQ(Files(), 1);
}

TEST_F(Triggers, WhileTheThreadHoldsALockTheNextAllocationWrites) {
  hak_lock_count_in();
  ASSERT_EQ(raise(SIGUSR2), 0);
  hak_lock_count_out();
  EXPECT_EQ(Files(), 0);
  Allocate();
  EXPECT_EQ(Files(), 1);
  Allocate();
  EXPECT_EQ(Files(), 1);
}

// A signal may come between the note of a lock's rank and the taking of it.
TEST_F(Triggers, TheHandlerIsNotBoundByARankThatTheThreadHasNoted) {
  static hak_lock lock = HAK_LOCK_INIT(HAK_RANK_META);
  hak_lock_rank_enter(&lock);
  ASSERT_EQ(raise(SIGUSR2), 0);
  hak_lock_rank_leave(&lock);
  EXPECT_EQ(Files(), 1);
}

int RaiseInSink(void *context, const void *, size_t) {
  auto *calls = static_cast<int *>(context);
  if (++*calls != 1) return 0;
  EXPECT_EQ(raise(SIGUSR2), 0);
  Allocate();
  return 0;
}

TEST_F(Triggers, WhileAProfileIsWrittenAnAllocationAfterItWrites) {
  int calls = 0;
  ASSERT_EQ(hak_prof_write(RaiseInSink, &calls), 0);
  EXPECT_GE(calls, 1);
  EXPECT_EQ(Files(), 0);
  Allocate();
  EXPECT_EQ(Files(), 1);
}

// By more than ever before, so that a profile becomes due.
void *Grow() {
  static size_t size = 0;
  size += 70u << 20;
  void *const large = hak_malloc(size);
  EXPECT_NE(large, nullptr);
  return large;
}

int GrowInSink(void *context, const void *, size_t) {
  auto **large = static_cast<void **>(context);
  if (*large != nullptr) return 0;
  *large = Grow();
  // It is due, and cannot be written.
  Allocate();
  return 0;
}

TEST_F(Triggers, GrowthWhileAProfileIsWrittenIsWrittenAfterIt) {
  void *large = nullptr;
  ASSERT_EQ(hak_prof_write(GrowInSink, &large), 0);
  EXPECT_EQ(Files(), 0);
  Allocate();
  EXPECT_EQ(Files(), 1);
  Allocate();
  EXPECT_EQ(Files(), 1);
  hak_free(large);
}

TEST_F(Triggers, GrowthWhileTheThreadHoldsALockIsWrittenAfterIt) {
  void *const large = Grow();
  hak_lock_count_in();
  Allocate();
  EXPECT_EQ(Files(), 0);
  hak_lock_count_out();
  Allocate();
  EXPECT_EQ(Files(), 1);
  hak_free(large);
}

// The thread that was writing at the fork goes on only in the parent.
int ForkInSink(void *context, const void *, size_t) {
  auto *status = static_cast<int *>(context);
  if (*status != -1) return 0;
  const pid_t child = fork();
  if (child == 0) _exit(hak_prof_dump("of-the-child") == 0 && access("of-the-child", F_OK) == 0 ? 42 : 1);
  EXPECT_EQ(waitpid(child, status, 0), child);
  EXPECT_EQ(hak_prof_dump("of-the-parent"), EBUSY);
  return 0;
}

TEST_F(Triggers, TheChildOfAForkIsNotBusyWithItsParentsProfile) {
  int status = -1;
  ASSERT_EQ(hak_prof_write(ForkInSink, &status), 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

}  // namespace
