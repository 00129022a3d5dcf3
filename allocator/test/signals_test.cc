// SPDX-License-Identifier: Apache-2.0
//
// Signals whose handlers do not allocate, delivered to threads in the middle of malloc and free, some thousand in all,
// by other threads and by a timer. Nothing may be lost, and no call may report an interrupted system call in errno. (A
// handler that allocates, or leaves by siglongjmp, is outside of what malloc promises.)
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "allocator/test/probe.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

constexpr int kErrnoBefore = 4242;
constexpr uint64_t kSignals = kSlowBuild ? 500 : 1000;
constexpr size_t kThreads = 3;

std::atomic<uint64_t> g_delivered{0};
std::atomic<uint64_t> g_inside{0};
// volatile sig_atomic_t: a thread's handler reads what the thread itself wrote.
thread_local volatile sig_atomic_t t_inside = 0;

// A correct handler: it calls only async-signal-safe functions, and restores errno.
void Handler(int) {
  const int saved = errno;
  g_delivered.fetch_add(1, std::memory_order_relaxed);
  if (t_inside != 0) g_inside.fetch_add(1, std::memory_order_relaxed);
  errno = EINTR;  // as a system call in a handler would leave it
  getppid();
  errno = saved;
}

// A worker takes and frees blocks of all kinds, its own and those of others, and checks errno after each call.
struct Shared {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> damaged{0};
  std::atomic<uint64_t> bad_errno{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<void *> exchange[64] = {};
};

void Work(Shared *shared, uint64_t seed) {
  Random random(TestSeed(seed));
  std::vector<Stamped> mine(150);
  const auto watched = [&](auto call) {
    errno = kErrnoBefore;
    t_inside = 1;
    call();
    t_inside = 0;
    if (errno != kErrnoBefore) ++shared->bad_errno;
  };
  while (!shared->stop) {
    Stamped &block = mine[random.Index(mine.size())];
    bool good = true;
    watched([&] { good = block.Free(); });
    if (!good) ++shared->damaged;
    const size_t size = random.OneIn(300) ? 2000000 : random.OneIn(50) ? 100000 : 1500;
    watched([&] { good = block.New(1 + random.Index(size), random.Next()); });
    if (!good) ++shared->refused;
    watched([&] { hak_free(shared->exchange[random.Index(64)].exchange(hak_malloc(1 + random.Index(500)))); });
    if (random.OneIn(400)) watched([] { hak_trim(0); });
  }
  for (Stamped &block : mine) {
    if (!block.Free()) ++shared->damaged;
  }
}

class Signals : public testing::TestWithParam<int> {
 protected:
  Signals() {
    struct sigaction action = {};
    action.sa_handler = Handler;
    action.sa_flags = GetParam();
    sigaction(SIGUSR1, &action, &old_user_);
    sigaction(SIGALRM, &action, &old_alarm_);
    g_delivered = 0;
    g_inside = 0;
    for (uint64_t t = 0; t < kThreads; ++t) threads_.emplace_back([this, t] { Work(&shared_, t); });
  }
  void End() {
    shared_.stop = true;
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
    for (std::atomic<void *> &p : shared_.exchange) hak_free(p.exchange(nullptr));
    EXPECT_EQ(shared_.damaged, 0U);
    EXPECT_EQ(shared_.bad_errno, 0U);
    EXPECT_EQ(shared_.refused, 0U);
    EXPECT_TRUE(hak_heap_verify());
#if !HAK_TEST_TSAN  // its runtime delivers signals only between operations of the thread
    EXPECT_GT(g_inside, g_delivered / 20) << "the signals hardly met a thread inside the allocator";
#endif
  }
  ~Signals() override {
    sigaction(SIGUSR1, &old_user_, nullptr);
    sigaction(SIGALRM, &old_alarm_, nullptr);
  }

  Shared shared_;
  std::vector<std::thread> threads_;
  struct sigaction old_user_ = {};
  struct sigaction old_alarm_ = {};
};

TEST_P(Signals, FromAnotherThread) {
  for (uint64_t i = 0; i < kSignals; ++i) {
    pthread_kill(threads_[i % kThreads].native_handle(), SIGUSR1);
    if (i % 8 == 0) sched_yield();
    // Signals of a kind that is already pending are merged, so they are sent no faster than they are handled.
    while (g_delivered + 100 < i && i % 50 == 0) {
      usleep(100);
      pthread_kill(threads_[i % kThreads].native_handle(), SIGUSR1);
    }
  }
  EXPECT_TRUE(WaitUntil([] { return g_delivered > kSignals / 10; }));
  End();
}

TEST_P(Signals, FromATimer) {
  // The kernel sends the timer's signal to any thread; this one blocks it.
  sigset_t alarm_only;
  sigset_t before;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &alarm_only, &before);
  const itimerval often = {{0, 500}, {0, 500}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  EXPECT_TRUE(WaitUntil([] { return g_delivered > (kSlowBuild ? 100 : 200); }, 60));
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  End();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Flags, Signals, testing::Values(0, SA_RESTART), [](const testing::TestParamInfo<int> &tested) {
  return std::string(tested.param == 0 ? "SystemCallsEnd" : "SystemCallsGoOn");
});

}  // namespace
}  // namespace hak_test
