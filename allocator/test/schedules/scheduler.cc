// SPDX-License-Identifier: Apache-2.0
//
// Which thread runs is handed on by semaphores, so the state below has one user at a time.
#include "allocator/test/schedules/scheduler.h"

#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

enum hak_test_race hak_test_planted;

namespace hak_schedules {

void (*on_call)(const char *name);

namespace {

// A thread that passes so many points in a row may be waiting for another one, and becomes the lowest.
constexpr uint64_t kTurn = 3000;
// No schedule needs so many; a longer one does not end.
constexpr uint64_t kMostSteps = 1000000;

struct Runner {
  sem_t go = {};
  int64_t priority = 0;
  uint64_t turn = 0;
  const void *waits_for = nullptr;
  bool ended = false;
};

class Schedule {
 public:
  Schedule(const Plan &plan, size_t threads) : random_(plan.seed), runners_(threads) {
    sem_init(&done_, 0, 0);
    for (size_t i = 0; i < threads; i++) {
      sem_init(&runners_[i].go, 0, 0);
      runners_[i].priority = static_cast<int64_t>(i);
    }
    for (size_t i = threads; i > 1; i--) std::swap(runners_[i - 1].priority, runners_[random_() % i].priority);
    for (uint32_t i = 0; i < plan.changes; i++) changes_.push_back(1 + random_() % std::max<uint64_t>(plan.steps, 1));
    std::sort(changes_.begin(), changes_.end());
  }
  ~Schedule() {
    for (Runner &runner : runners_) sem_destroy(&runner.go);
    sem_destroy(&done_);
  }
  Schedule(const Schedule &) = delete;
  Schedule &operator=(const Schedule &) = delete;

  Result Run(const std::vector<std::function<void()>> &bodies) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < bodies.size(); i++) threads.emplace_back([&, i] { Body(i, bodies[i]); });
    Begin(Highest());
    Wait(&done_);
    for (std::thread &thread : threads) thread.join();
    return {steps_, digest_};
  }

  void Point() {
    const size_t me = running_;
    if (++steps_ > kMostSteps) Fail("the schedule does not end");
    bool lower = ++runners_[me].turn % kTurn == 0;
    while (next_change_ < changes_.size() && changes_[next_change_] <= steps_) {
      next_change_++;
      lower = true;
    }
    if (lower) runners_[me].priority = --lowest_;
    GoOn(me);
  }

  void WaitFor(const void *word) {
    const size_t me = running_;
    runners_[me].waits_for = word;
    GoOn(me);
  }
  void Wake(const void *word, int count) {
    for (Runner &runner : runners_) {
      if (count <= 0) break;
      if (runner.waits_for != word) continue;
      runner.waits_for = nullptr;
      count--;
    }
    Point();
  }
  void BeLowest() {
    runners_[running_].priority = --lowest_;
    Point();
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;

  static void Wait(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0) {
    }
  }
  void Body(size_t me, const std::function<void()> &body);

  size_t Highest() const {
    size_t best = kNone;
    for (size_t i = 0; i < runners_.size(); i++) {
      if (runners_[i].ended || runners_[i].waits_for != nullptr) continue;
      if (best == kNone || runners_[i].priority > runners_[best].priority) best = i;
    }
    return best;
  }
  void Begin(size_t next) {
    running_ = next;
    runners_[next].turn = 0;
    digest_ = (digest_ ^ (steps_ * 64 + next)) * 0x9E3779B97F4A7C15u;
    sem_post(&runners_[next].go);
  }
  void GoOn(size_t me) {
    const size_t next = Highest();
    if (next == me) return;
    if (next == kNone) Fail("all threads wait for each other");
    Begin(next);
    Wait(&runners_[me].go);
  }
  void End(size_t me) {
    runners_[me].ended = true;
    const size_t next = Highest();
    if (next != kNone) {
      Begin(next);
    } else if (std::all_of(runners_.begin(), runners_.end(), [](const Runner &r) { return r.ended; })) {
      sem_post(&done_);
    } else {
      Fail("a thread waits for one that has ended");
    }
  }

  std::mt19937_64 random_;
  std::vector<Runner> runners_;
  std::vector<uint64_t> changes_;
  size_t next_change_ = 0;
  size_t running_ = 0;
  int64_t lowest_ = 0;
  uint64_t steps_ = 0;
  uint64_t digest_ = 0;
  sem_t done_ = {};
};

// The schedule that the thread is part of.
thread_local Schedule *current;

void Schedule::Body(size_t me, const std::function<void()> &body) {
  Wait(&runners_[me].go);
  current = this;
  body();
  current = nullptr;
  End(me);
}

// What the child has found so far; shared with its parent.
Found *progress;

// One thread runs at a time, and it wakes the next one sooner on the same processor. If this is refused, only the time
// differs.
void StayOnOneProcessor() {
  const int here = sched_getcpu();
  if (here < 0) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(here), &one);
  static_cast<void>(sched_setaffinity(0, sizeof one, &one));
}

// Ends this process by SIGPROF unless it is called again in time. Damaged lists make loops that have no end, also in
// the checks after the threads, where nobody counts points.
void EndIfItTakesMoreThan(uint32_t seconds) {
  itimerval limit = {};
  limit.it_value.tv_sec = seconds;
  if (setitimer(ITIMER_PROF, &limit, nullptr) != 0) _exit(2);
}

[[noreturn]] void SearchInChild(const Search &search, const std::function<Result(const Plan &plan)> &schedule) {
  StayOnOneProcessor();
  // It may have been ignored by who started the test.
  signal(SIGPROF, SIG_DFL);
  hak_test_planted = search.race;
  if (search.race != HAK_TEST_NO_RACE) {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, STDERR_FILENO) < 0) _exit(2);
  }
  std::mt19937_64 random(search.seed);
  progress->longest = 1;
  while (progress->schedules < search.schedules) {
    progress->schedules++;
    EndIfItTakesMoreThan(search.seconds);
    Plan plan;
    plan.seed = random();
    plan.changes = progress->schedules % (search.most_changes + 1);
    // Most schedules are shorter than the longest one.
    plan.steps = 1 + random() % progress->longest;
    const Result result = schedule(plan);
    progress->longest = std::max(progress->longest, result.steps);
    progress->digest = (progress->digest ^ result.digest) * 0x9E3779B97F4A7C15u;
  }
  _exit(0);
}

}  // namespace

Result Run(const Plan &plan, const std::vector<std::function<void()>> &bodies) {
  Schedule schedule(plan, bodies.size());
  return schedule.Run(bodies);
}

void Fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  _exit(1);
}

Found Explore(const Search &search, const std::function<Result(const Plan &plan)> &schedule) {
  void *const shared = mmap(nullptr, sizeof(Found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) abort();
  progress = static_cast<Found *>(shared);
  const pid_t child = fork();
  if (child < 0) abort();
  if (child == 0) SearchInChild(search, schedule);
  int status = 0;
  if (waitpid(child, &status, 0) != child) abort();
  Found found = *progress;
  munmap(shared, sizeof(Found));
  // Status 2: the search could not begin.
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) abort();
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF && search.race == HAK_TEST_NO_RACE)
    fprintf(stderr, "a schedule does not end within %u s\n", search.seconds);
  found.failed = status != 0;
  return found;
}

}  // namespace hak_schedules

// ---- What the code under test calls --------------------------------------------------------------------

extern "C" {
void hak_test_point(void);
void hak_test_futex_wait(std::atomic<uint32_t> *word, uint32_t value, uint64_t ms);
void hak_test_futex_wake(std::atomic<uint32_t> *word, int count);
void hak_test_call(const char *name);
bool hak_test_barrier(void);
uint64_t hak_test_now_ms(void);

void hak_test_point(void) {
  if (hak_schedules::current != nullptr) hak_schedules::current->Point();
}

void hak_test_futex_wait(std::atomic<uint32_t> *word, uint32_t value, uint64_t ms) {
  if (hak_schedules::current == nullptr) hak_schedules::Fail("a wait outside of all schedules");
  if (word->load() != value) return;
  if (ms == UINT64_MAX) {
    hak_schedules::current->WaitFor(word);
  } else {
    hak_schedules::current->BeLowest();
  }
}

void hak_test_futex_wake(std::atomic<uint32_t> *word, int count) {
  if (hak_schedules::current != nullptr) hak_schedules::current->Wake(word, count);
}

void hak_test_call(const char *name) {
  if (hak_schedules::on_call != nullptr) hak_schedules::on_call(name);
  hak_test_point();
}

// One thread runs at a time, and each sees all that the others wrote.
bool hak_test_barrier(void) {
  hak_test_point();
  return true;
}

// Time stands still, so that a run can be repeated.
uint64_t hak_test_now_ms(void) { return 1000000; }
}
