// SPDX-License-Identifier: Apache-2.0
//
// Faults in series, judged from outside. Each program of fault_scripts.h runs once while its system calls are counted,
// then once for each call n: call n fails; it and all later ones fail; it and all later ones of its kind fail; with the
// errors that such a call may give. Each run is a process of its own under a supervisor (call_supervisor.h).
//
// The program must not crash, hang or write a word; a request gives memory, or NULL with ENOMEM; blocks keep their
// contents and the heap verifies. Once calls succeed again, requests and trims do; then the process has no more memory
// than after a run without faults.
//
// HAK_TEST_SCALE: how many times as many runs. A start with more calls than runs tries a sample of them.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/test/fault_scripts.h"
#include "allocator/test/kernel/call_supervisor.h"
#include "allocator/test/probe.h"
#include "allocator/test/subprocess.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

#if defined(HAK_PROFILE_STANDARD)
constexpr size_t kRuns = 16;
#else
constexpr size_t kRuns = 6;
#endif

// ---- One run ------------------------------------------------------------------------------------

// Private memory of the process, as the kernel counts it.
unsigned long long PrivateBytes() {
  char text[128] = {};
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0 || read(file, text, sizeof text - 1) <= 0) abort();
  close(file);
  unsigned long long size = 0;
  unsigned long long resident = 0;
  unsigned long long shared = 0;
  if (sscanf(text, "%llu %llu %llu", &size, &resident, &shared) != 3) abort();
  return (resident - shared) * static_cast<unsigned long long>(sysconf(_SC_PAGESIZE));
}

// No lock is lost: a new thread and a child can do everything.
int EverythingWorks() {
  const auto use = [] {
    for (size_t size = 10; size < 4000000; size *= 3) {
      void *volatile p = hak_malloc(size);
      if (p == nullptr) abort();
      hak_free(p);
    }
    hak_trim(0);
    if (!hak_heap_verify()) abort();
  };
  std::thread(use).join();
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    use();
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    dprintf(STDERR_FILENO, "a child after the faults ended with status %d\n", status);
    return 1;
  }
  return 0;
}

int RunProgram(const Script &script, Supervision *shared, const AllocatorApi &api) {
  const Faults faults = {[shared] { shared->armed = true; }, [shared] { shared->armed = false; },
                         [shared] { return shared->armed.load() ? shared->hits.load() : 0; }};
  const int code = RunScript(script, faults, api);
  dprintf(STDOUT_FILENO, "private %llu\n", PrivateBytes());
  return code != 0 ? code : EverythingWorks();
}

// A program of the series: a script, in a child of the test, or in a program that starts anew under supervision.
struct Program {
  std::string name;
  const Script *script;
  bool from_start = false;
};
void PrintTo(const Program &program, std::ostream *out) { *out << program.name; }

struct Trial {
  Result result;
  unsigned long long private_bytes = 0;
  uint64_t hits = 0;
  std::vector<uint64_t> calls;
  std::vector<unsigned char> sequence;
};

class Series {
 public:
  explicit Series(Program program) : program_(std::move(program)), shared_(ShareSupervision(&file_)) {}
  ~Series() { close(file_); }
  Series(const Series &) = delete;
  Series &operator=(const Series &) = delete;

  Trial Try(const CallPlan &plan, const AllocatorApi &api = AllocatorApi{}) {
    memset(static_cast<void *>(shared_), 0, sizeof *shared_);
    // The start's calls count; a script says itself when it begins.
    shared_->armed = program_.from_start;
    const Outcome outcome = RunForked(
        [&] {
          return Supervise(plan, shared_, [&] {
            if (program_.from_start) Exec();
            return RunProgram(*program_.script, shared_, api);
          });
        },
        60);
    Trial run;
    run.result = ResultOf(outcome);
    const size_t at = outcome.out.find("\nprivate ");
    if (at != std::string::npos) run.private_bytes = strtoull(outcome.out.c_str() + at + 9, nullptr, 10);
    run.hits = shared_->hits;
    for (const std::atomic<uint64_t> &calls : shared_->calls) run.calls.push_back(calls);
    for (size_t i = 0; i < std::min<size_t>(shared_->all, kMostCalls); ++i)
      run.sequence.push_back(shared_->sequence[i]);
    return run;
  }
  Supervision *shared() const { return shared_; }

 private:
  [[noreturn]] void Exec() {
    const std::string file = std::to_string(file_);
    execl("/proc/self/exe", "program", "--program", file.c_str(), program_.script->name, nullptr);
    _exit(127);
  }

  const Program program_;
  int file_ = -1;
  Supervision *const shared_;
};

// ---- All runs of a program ----------------------------------------------------------------------

// Everything that can be tried: each call with each error.
std::vector<CallPlan> AllPlans(const Trial &usual) {
  std::vector<CallPlan> plans;
  for (size_t i = 0; i < usual.sequence.size(); ++i) {
    const CallKind &kind = CallKinds()[usual.sequence[i]];
    for (size_t error = 0; error < kind.lasting.size() + kind.passing.size(); ++error) {
      plans.push_back({Failing::kOne, i + 1, 0, error});
    }
    for (size_t error = 0; error < 4; ++error) plans.push_back({Failing::kAllFrom, i + 1, 0, error});
  }
  for (size_t kind = 0; kind < kCallKinds; ++kind) {
    for (uint64_t nth = 1; nth <= usual.calls[kind]; ++nth) {
      for (size_t error = 0; error < CallKinds()[kind].lasting.size(); ++error) {
        plans.push_back({Failing::kKindFrom, nth, kind, error});
      }
    }
  }
  return plans;
}

std::string Text(const Trial &run) {
  std::string text;
  for (size_t kind = 0; kind < kCallKinds; ++kind) {
    if (run.calls[kind] != 0) text += std::string(" ") + CallKinds()[kind].name + " " + std::to_string(run.calls[kind]);
  }
  return text;
}

// Memory that a run with faults may have more than one without: pages of records that were taken in another order.
constexpr unsigned long long kSlack = 512 * 1024;

// What is wrong with a run; empty: nothing.
std::string Fault(const Trial &run, const Trial &usual, bool from_start = false) {
  if (!run.result.good) return "it fails";
  // What the start did not get it does without, or replaces: a page that tells forks, the flat slab map.
  const std::string difference = from_start ? "" : Difference(run.result.accounts, usual.result.accounts);
  if (!difference.empty()) return difference;
  if (run.private_bytes > usual.private_bytes + kSlack) {
    return "it keeps " + std::to_string(run.private_bytes) + " bytes instead of " + std::to_string(usual.private_bytes);
  }
  return "";
}

class FaultSeries : public testing::TestWithParam<Program> {};

TEST_P(FaultSeries, EachCallFails) {
  Series series(GetParam());
  const Trial usual = series.Try({});
  if (usual.result.outcome.exit_code == kNoSupervisor) GTEST_SKIP() << "no filter that reports calls can be set here";
  ASSERT_TRUE(usual.result.good) << usual.result.outcome;
  EXPECT_EQ(usual.hits, 0U);
  EXPECT_EQ(usual.result.nulls, 0U);
  ASSERT_GT(usual.sequence.size(), 1U) << "the program makes no system call";
  ASSERT_LT(usual.sequence.size(), kMostCalls) << "the program makes too many calls";

  std::vector<CallPlan> plans = AllPlans(usual);
  const size_t possible = plans.size();
  Random random(TestSeed(std::hash<std::string>()(GetParam().name)));
  for (size_t i = plans.size() - 1; i > 0; --i) std::swap(plans[i], plans[random.Index(i + 1)]);
  // Where threads meet, a run may have fewer calls than the one that was counted: then another plan is tried.
  const size_t wanted = std::min<size_t>(possible, Scaled(kRuns));
  size_t tried = 0;
  size_t reached = 0;
  size_t nulls = 0;
  for (; reached < wanted && tried < std::min(possible, 4 * wanted); tried++) {
    const CallPlan &plan = plans[tried];
    const Trial run = series.Try(plan);
    ASSERT_EQ(Fault(run, usual, GetParam().from_start), "") << plan << ": " << run.result.outcome;
    // A request may fail only if memory cannot be mapped.
    if (plan.failing == Failing::kKindFrom && !CallKinds()[plan.kind].gives_memory) {
      ASSERT_EQ(run.result.nulls, 0U) << plan << ": " << run.result.outcome;
    }
    reached += run.hits > 0 ? 1 : 0;
    nulls += run.result.nulls;
  }
  EXPECT_GT(reached * 2, wanted);
  printf("series %s: calls %zu (%s), runs %zu of %zu, with a failed call %zu, requests refused %zu\n",
         GetParam().name.c_str(), usual.sequence.size(), Text(usual).c_str() + 1, tried, possible, reached, nulls);
}

std::vector<Program> Programs() {
  std::vector<Program> programs;
  for (const std::vector<Script> *scripts : {&Scripts(), &ProcessScripts()}) {
    for (const Script &script : *scripts) programs.push_back({script.name, &script});
  }
  for (const char *script : {"FirstBlock", "Adoption"}) {
    programs.push_back({std::string("StartOf") + script, &ScriptNamed(script), true});
  }
  return programs;
}

INSTANTIATE_TEST_SUITE_P(Programs, FaultSeries, testing::ValuesIn(Programs()),
                         [](const testing::TestParamInfo<Program> &tested) { return tested.param.name; });

// ---- Positive controls --------------------------------------------------------------------------

Supervision *g_shared;

bool Starved() { return g_shared->hits > 0; }

AllocatorApi KeepsMemory() {
  AllocatorApi api;
  api.free = [](void *p) {
    static void *kept;
    hak_free(p);
    if (!Starved() || kept != nullptr) return;
    kept = malloc(4 * kSlack);
    memset(kept, 1, 4 * kSlack);
  };
  return api;
}

AllocatorApi Hangs() {
  AllocatorApi api;
  api.trim = [](size_t keep) {
    while (Starved()) pause();
    return hak_trim(keep);
  };
  return api;
}

AllocatorApi Crashes() {
  AllocatorApi api;
  api.trim = [](size_t keep) {
    if (Starved()) abort();
    return hak_trim(keep);
  };
  return api;
}

pid_t g_first;

AllocatorApi CrashesInAChild() {
  AllocatorApi api;
  api.trim = [](size_t keep) {
    if (Starved() && getpid() != g_first) abort();
    return hak_trim(keep);
  };
  api.malloc = [](size_t size) {
    if (g_first == 0) g_first = getpid();
    return hak_malloc(size);
  };
  return api;
}

// A lock that a failed call leaves taken: the next thread waits for it.
AllocatorApi LosesALock() {
  AllocatorApi api;
  api.aligned_alloc = [](size_t alignment, size_t size) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    void *p = hak_aligned_alloc(alignment, size);
    if (p != nullptr) pthread_mutex_unlock(&lock);
    return p;
  };
  return api;
}

TEST(PlantedBug, IsFound) {
  const struct {
    const char *name;
    AllocatorApi api;
    const char *script;
    int exit_code;  // of the program; 100: a signal
    bool waits;
  } controls[] = {
      {"KeepsMemory", KeepsMemory(), "LargeBlocks", 0, false}, {"Hangs", Hangs(), "LargeBlocks", 100, true},
      {"Crashes", Crashes(), "LargeBlocks", 100, false},       {"CrashesInAChild", CrashesInAChild(), "Fork", 1, false},
      {"LosesALock", LosesALock(), "Alignments", 100, true},
  };
  for (const auto &control : controls) {
    Series series({control.script, &ScriptNamed(control.script)});
    g_shared = series.shared();
    const Trial usual = series.Try({}, control.api);
    if (usual.result.outcome.exit_code == kNoSupervisor) GTEST_SKIP() << "no filter that reports calls can be set here";
    ASSERT_TRUE(usual.result.good) << control.name << usual.result.outcome;
    CallPlan plan = {Failing::kAllFrom, 1, 0, 0};
    // Soon only for those that wait for ever: on a busy machine the others may need some seconds.
    if (control.waits) plan.alarm_seconds = 2;
    const Trial run = series.Try(plan, control.api);
    EXPECT_NE(Fault(run, usual), "") << control.name << " was not noticed";
    EXPECT_EQ(run.result.outcome.exit_code, control.exit_code) << control.name << run.result.outcome;
  }
}

// What the supervisor does: exactly the planned calls get exactly the planned error.
TEST(Supervisor, FailsWhatThePlanSays) {
  Series series({"LargeBlocks", &ScriptNamed("LargeBlocks")});
  const Trial usual = series.Try({});
  if (usual.result.outcome.exit_code == kNoSupervisor) GTEST_SKIP() << "no filter that reports calls can be set here";
  const size_t mapping = 0;
  ASSERT_STREQ(CallKinds()[mapping].name, "mmap");
  ASSERT_GT(usual.calls[mapping], 2U);
  EXPECT_EQ(series.Try({Failing::kOne, 2, 0, 0}).hits, 1U);
  const Trial none = series.Try({Failing::kKindFrom, 1, mapping, 0});
  EXPECT_EQ(none.hits, none.calls[mapping]);
  EXPECT_GT(none.result.nulls, 0U);
  const Trial all = series.Try({Failing::kAllFrom, 1, 0, 0});
  EXPECT_EQ(all.hits, all.sequence.size());
  // Calls after the faults are not among them.
  EXPECT_EQ(series.Try({Failing::kOne, kMostCalls, 0, 0}).hits, 0U);
}

bool HasGuards() { return IsHardenedBuild() || strstr(hak_version(), " observe ") != nullptr; }

// The programs make calls of these kinds. Otherwise the runs above would have tried nothing.
TEST(Supervisor, SeesEachKind) {
  std::vector<uint64_t> calls(kCallKinds);
  for (const Program &program : Programs()) {
    const Trial run = Series(program).Try({});
    if (run.result.outcome.exit_code == kNoSupervisor) GTEST_SKIP() << "no filter that reports calls can be set here";
    for (size_t kind = 0; kind < kCallKinds; ++kind) calls[kind] += run.calls[kind];
  }
  for (size_t kind = 0; kind < kCallKinds; ++kind) {
    const std::string name = CallKinds()[kind].name;
    printf("%s: %llu calls\n", name.c_str(), static_cast<unsigned long long>(calls[kind]));
    if (name == "mremap" && HasGuards()) continue;  // guarded blocks are not moved
    EXPECT_GT(calls[kind], 0U) << name;
  }
}

int ProgramOf(const char *file_text, const char *script) {
  int file = atoi(file_text);
  return RunProgram(ScriptNamed(script), ShareSupervision(&file), AllocatorApi{});
}

}  // namespace
}  // namespace hak_test

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--program") == 0) return hak_test::ProgramOf(argv[2], argv[3]);
  printf("build: %s\n", hak_version());
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
