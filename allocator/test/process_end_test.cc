// SPDX-License-Identifier: Apache-2.0
//
// The end of a process with the override of the C library: blocks are allocated and freed in exit handlers, static
// destructors, destructors of libraries and of threads, after main and after the main thread. Each ending is a process
// of its own and prints what ran; the parent, this program as a test, compares.
//
//   process_end_test                 runs every ending
//   process_end_test --child ENDING  one ending: return exit quick thread-exit daemon-threads double-free
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allocator/test/subprocess.h"

namespace {

using hak_test::Outcome;

// Blocks of all kinds, each with a checksum, so that a block that was handed out twice or was changed is noticed.
struct Hoard {
  void Fill(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const size_t size = 16 + i * 37 % 3000 + (i % 40 == 39 ? 300000 : 0);
      auto *p = static_cast<unsigned char *>(malloc(size));
      if (p == nullptr) _exit(20);
      memset(p, static_cast<int>(i & 0xFF), size);
      blocks[used] = p;
      sizes[used++] = size;
    }
  }
  void Check(size_t i) const {
    const unsigned char tag = blocks[i][0];
    for (size_t k = 0; k < sizes[i]; ++k) {
      if (blocks[i][k] != tag) _exit(21);
    }
  }
  void FreeAll() {
    while (used > 0) {
      Check(--used);
      free(blocks[used]);
    }
  }
  static constexpr size_t kRoom = 600;
  unsigned char *blocks[kRoom];
  size_t sizes[kRoom];
  size_t used = 0;
};

// Writes one line for each part of the end that ran. Does not use stdio, which may be closed by now.
bool g_child = false;
void Say(const char *what) {
  if (!g_child) return;
  char line[100];
  const int length = snprintf(line, sizeof line, "%s\n", what);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) != length) _exit(22);
}

Hoard g_main;  // has a trivial destructor, so it is usable until the end

void Work(const char *what) {
  if (!g_child) return;
  Hoard mine;
  mine.Fill(100);
  void *moved = realloc(malloc(100), 5000);
  if (moved == nullptr) _exit(23);
  free(moved);
  // Frees half of what main left, the oldest last.
  for (size_t half = g_main.used / 2; g_main.used > half;) {
    g_main.Check(--g_main.used);
    free(g_main.blocks[g_main.used]);
  }
  mine.FreeAll();
  if (!hak_heap_verify()) _exit(24);
  Say(what);
}

struct StaticObject {
  explicit StaticObject(const char *its_name) : name(its_name), text(new std::string(2000, 's')) {}
  ~StaticObject() {
    if (*text != std::string(2000, 's')) _exit(25);
    delete text;
    Work(name);
  }
  const char *name;
  std::string *text;
};
StaticObject g_first("static destructor 1");
StaticObject g_second("static destructor 2");

__attribute__((destructor)) void LateDestructor() { Work("destructor function"); }

void Prepare() {
  g_child = true;
  g_main.Fill(Hoard::kRoom);
  if (atexit([] { Work("atexit 1"); }) != 0 || atexit([] { Work("atexit 2"); }) != 0) _exit(26);
  if (at_quick_exit([] { Work("at_quick_exit"); }) != 0) _exit(27);
  // Some of the blocks that the end frees are from a thread that has ended.
  std::thread([] {
    for (size_t i = 0; i < g_main.used; i += 3) {
      free(g_main.blocks[i]);
      g_main.blocks[i] = static_cast<unsigned char *>(malloc(g_main.sizes[i]));
      memset(g_main.blocks[i], 9, g_main.sizes[i]);
    }
  }).join();
}

int Child(const std::string &ending) {
  Prepare();
  if (ending == "return") return 0;
  if (ending == "exit") exit(0);
  if (ending == "quick") quick_exit(0);
  if (ending == "thread-exit") {
    // The main thread ends. The last thread ends the process and runs the exit handlers.
    pthread_key_t key;
    if (pthread_key_create(&key,
                           [](void *block) {
                             free(block);
                             Work("destructor of a key");
                           }) != 0 ||
        pthread_setspecific(key, malloc(10)) != 0) {
      _exit(28);
    }
    static pthread_t main_thread = pthread_self();
    std::thread([] {
      pthread_join(main_thread, nullptr);
      Work("thread after main");
    }).detach();
    pthread_exit(nullptr);
  }
  if (ending == "daemon-threads") {
    // Threads that still allocate while exit handlers run.
    static std::atomic<unsigned> started{0};
    for (int t = 0; t < 3; ++t) {
      std::thread([] {
        Hoard mine;
        for (;;) {
          mine.Fill(200);
          mine.FreeAll();
          started.fetch_add(1);
        }
      }).detach();
    }
    while (started < 6) sched_yield();
    return 0;
  }
  if (ending == "double-free") {
    // The control: the check at exit finds a double free that no earlier part has found.
    g_child = false;
    void *blocks[64];
    for (void *&p : blocks) p = malloc(64);
    for (void *p : blocks) free(p);
    void *volatile again = blocks[0];
    free(again);
    return 0;
  }
  return 2;
}

int g_failures = 0;

void Expect(const char *ending, const std::vector<std::string> &lines) {
  const Outcome outcome = hak_test::RunSelf({"--child", ending}, {}, 60);
  std::string wanted;
  for (const std::string &line : lines) wanted += line + "\n";
  if (outcome.exit_code == 0 && outcome.err.empty() && outcome.out == wanted) {
    printf("ok: %s\n", ending);
    return;
  }
  ++g_failures;
  printf("FAILED: %s: exit code %d, signal %d%s\n%s%swanted\n%s", ending, outcome.exit_code, outcome.signal,
         outcome.timed_out ? ", timed out" : "", outcome.out.c_str(), outcome.err.c_str(), wanted.c_str());
}

}  // namespace

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return Child(argv[2]);
  if (!hak_test::CanRunSelf()) {
    puts("SKIPPED: the emulator cannot start the program again");
    return 0;
  }
  const std::vector<std::string> handlers = {"atexit 2", "atexit 1", "static destructor 2", "static destructor 1",
                                             "destructor function"};
  Expect("return", handlers);
  Expect("exit", handlers);
  Expect("quick", {"at_quick_exit"});
  std::vector<std::string> both = {"destructor of a key", "thread after main"};
  both.insert(both.end(), handlers.begin(), handlers.end());
  Expect("thread-exit", both);
  Expect("daemon-threads", handlers);
  const Outcome control = hak_test::RunSelf({"--child", "double-free"}, {}, 60);
  const bool fast = strstr(hak_version(), " fast ") != nullptr;  // FAST promises no check at the end
  if (!fast && (control.exit_code == 0 || control.err.find("hakmem: double free: ") != 0)) {
    ++g_failures;
    printf("FAILED: a double free was not noticed: exit code %d\n%s", control.exit_code, control.err.c_str());
  }
  return g_failures == 0 ? 0 : 1;
}
