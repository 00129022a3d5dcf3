// SPDX-License-Identifier: Apache-2.0
//
// A stripped program without frame pointers whose malloc is hakmem's, and every allocation is sampled, while threads
// load and unload a library, throw exceptions, fork and take signals. A walk of the stack that took the dynamic
// linker's lock would wait for a thread that waits in malloc. And the stacks are those that the program has.
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

// Whether this is FAST, which has no sampling and must say so.
bool IsFast() {
  const bool fast = strstr(hak_version(), " fast ") != nullptr;
  if (fast) {
    EXPECT_EQ(hak_prof_start(), ENOTSUP);
  }
  return fast;
}

class Sampling {
 public:
  Sampling() {
    EXPECT_EQ(hak_config_set("HAKMEM_PROF_SAMPLE_KB", "0"), 0);
    EXPECT_EQ(hak_prof_start(), 0);
  }
  ~Sampling() { EXPECT_EQ(hak_prof_stop(), 0); }
  Sampling(const Sampling &) = delete;
  Sampling &operator=(const Sampling &) = delete;
};

// ---- Stacks -------------------------------------------------------------------------------------

// Functions that call one another by chance: the stack is what was called, and each function knows the return address
// with which it was called.
std::vector<const void *> called_from;
void *allocated;

class Node {
 public:
  virtual ~Node() = default;
  virtual void Run(uint32_t path) = 0;
};
Node *nodes[4];

void Next(uint32_t path) {
  if (path == 1) {
    allocated = malloc(123);
  } else {
    nodes[path % 4]->Run(path / 4);
  }
}

// A frame of each kind: of fixed size, of a size that is known when it runs, aligned, and with an exception's handler.
class Fixed : public Node {
  __attribute__((noinline)) void Run(uint32_t path) override {
    called_from.push_back(__builtin_return_address(0));
    volatile char room[300];
    room[0] = 1;
    Next(path);
    room[1] = room[0];
  }
};
class Dynamic : public Node {
  __attribute__((noinline)) void Run(uint32_t path) override {
    called_from.push_back(__builtin_return_address(0));
    volatile char *room = static_cast<volatile char *>(alloca(path % 100 + 16));
    room[0] = 1;
    Next(path);
    room[1] = room[0];
  }
};
class Aligned : public Node {
  __attribute__((noinline)) void Run(uint32_t path) override {
    called_from.push_back(__builtin_return_address(0));
    alignas(256) volatile char room[256];
    room[0] = 1;
    Next(path);
    room[1] = room[0];
  }
};
class Catching : public Node {
  __attribute__((noinline)) void Run(uint32_t path) override {
    called_from.push_back(__builtin_return_address(0));
    std::string name(path % 50, 'x');
    try {
      Next(path);
      if (path > 1u << 30) throw std::runtime_error(name);
    } catch (const std::runtime_error &) {
      allocated = nullptr;
    }
  }
};

struct Found {
  bool right = false;
  uint32_t frames = 0;
};

// The frames of the sample, from the innermost one on, contain the return addresses in their order.
int Check(const hak_prof_sample *sample, void *argument) {
  if (sample->address != allocated) return 0;
  Found *found = static_cast<Found *>(argument);
  found->frames = sample->frames;
  size_t at = called_from.size();
  for (uint32_t i = 0; i < sample->frames && at > 0; i++) at -= sample->frame[i] == called_from[at - 1];
  // Next is between two of them at most, and three frames of the allocator before all.
  found->right = at == 0;
  return 1;
}

TEST(StrippedStacks, AreWhatWasCalled) {
  if (IsFast()) return;
  Fixed fixed;
  Dynamic dynamic;
  Aligned aligned;
  Catching catching;
  nodes[0] = &fixed;
  nodes[1] = &dynamic;
  nodes[2] = &aligned;
  nodes[3] = &catching;
  called_from.reserve(100);
  const Sampling sampling;
  uint32_t path = 1;
  for (int i = 0; i < 500; i++) {
    path = path * 1664525u + 1013904223u;
    called_from.clear();
    const uint32_t bounded = (path >> 8) | 1u << 24;  // Twelve calls.
    Next(bounded);
    ASSERT_EQ(called_from.size(), 12u);
    Found found;
    EXPECT_EQ(hak_prof_visit_live(Check, &found), 1);
    ASSERT_TRUE(found.right) << i;
    EXPECT_GT(found.frames, 12u);
    free(allocated);
  }
}

// ---- No deadlock --------------------------------------------------------------------------------

std::atomic<bool> over{false};
std::atomic<uint64_t> done[5];

void Load() {
  const char *const plugin = getenv("HAK_TEST_PLUGIN");
  ASSERT_NE(plugin, nullptr);
  while (!over.load()) {
    void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    int (*run)(int);
    *reinterpret_cast<void **>(&run) = dlsym(library, "plugin_run");
    ASSERT_NE(run, nullptr);
    ASSERT_EQ(run(5), 5);
    ASSERT_EQ(dlclose(library), 0);
    done[0]++;
  }
}

__attribute__((noinline)) void ThrowFrom(int depth) {
  std::vector<int> some(static_cast<size_t>(depth) + 1);
  if (depth == 0) throw std::runtime_error("a text that does not fit into the object itself");
  ThrowFrom(depth - 1);
  some[0] = 1;
}

void Throw() {
  while (!over.load()) {
    try {
      ThrowFrom(12);
    } catch (const std::exception &error) {
      ASSERT_EQ(std::string(error.what()).size(), 47u);
    }
    done[1]++;
  }
}

void Allocate() {
  std::map<int, std::string> map;
  for (int i = 0; !over.load(); i++) {
    map[i % 500] = std::string(static_cast<size_t>(i % 3000), 'y');
    done[2]++;
  }
}

void Fork() {
  while (!over.load()) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // No dlopen: another thread of the parent may have been in the middle of one.
      std::string *text = new std::string(1000, 'z');
      const bool good = text->size() == 1000;
      delete text;
      _exit(good ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    done[3]++;
  }
}

// A handler must not allocate; that it interrupts walks of the stack is what matters.
volatile sig_atomic_t taken;
void Take(int) { taken = taken + 1; }

void Signal(const std::vector<pthread_t> &threads) {
  for (size_t i = 0; !over.load(); i++) {
    ASSERT_EQ(pthread_kill(threads[i % threads.size()], SIGUSR1), 0);
    done[4]++;
    usleep(200);
  }
}

int CountOne(const hak_prof_sample *, void *argument) {
  ++*static_cast<uint64_t *>(argument);
  return 0;
}

TEST(NoDeadlock, WhileLibrariesComeAndGo) {
  if (IsFast()) return;
  struct sigaction action = {};
  action.sa_handler = Take;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  const Sampling sampling;
  std::vector<std::thread> threads;
  for (const auto &work : std::vector<std::function<void()>>{Load, Load, Throw, Throw, Allocate, Fork}) {
    threads.emplace_back(work);
  }
  std::vector<pthread_t> handles;
  for (std::thread &thread : threads) handles.push_back(thread.native_handle());
  std::thread signals(Signal, handles);
  // Enough of each, however slow the machine is.
  const uint64_t least[] = {150, 1500, 5000, 40, 300};
  for (bool enough = false; !enough && !testing::Test::HasFatalFailure();) {
    usleep(10000);
    uint64_t samples = 0;
    EXPECT_EQ(hak_prof_visit_live(CountOne, &samples), 0);
    enough = samples > 0;
    for (size_t i = 0; i < 5; i++) enough = enough && done[i].load() >= least[i];
  }
  over = true;
  signals.join();
  for (std::thread &thread : threads) thread.join();
  EXPECT_GT(taken, 0);
  EXPECT_TRUE(hak_heap_verify());
}

}  // namespace
