// SPDX-License-Identifier: Apache-2.0
//
// A program that is linked without hakmem.
//
//   dlopen_host load LIBHAKMEM [TLS_LIBRARY...]   loads it by dlopen (after the others, which take up TLS), uses it
//   from
//                                                 threads older and younger than it, closes it, loads it again
//   dlopen_host exhaust LIBHAKMEM TLS_HOG...      loads the hogs until the room for static TLS is used up, then hakmem
//   dlopen_host rounds PLUGIN                     loads and closes it 1,000 times; memory and mappings must not grow
//   dlopen_host leak PLUGIN                       the same, keeping a little each time: must be noticed
//   dlopen_host plugin PLUGIN                     loads and closes a library that allocates, many times and from
//   threads
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void Fail(const char *what) {
  const char *error = dlerror();
  printf("FAILED: %s%s%s\n", what, error != nullptr ? ": " : "", error != nullptr ? error : "");
  fflush(stdout);
  _Exit(1);
}

template <typename Function>
Function Symbol(void *library, const char *name) {
  void *symbol = dlsym(library, name);
  if (symbol == nullptr) Fail(name);
  return reinterpret_cast<Function>(symbol);
}

struct Api {
  void *library;
  void *(*malloc)(size_t);
  void *(*calloc)(size_t, size_t);
  void *(*realloc)(void *, size_t);
  void (*free)(void *);
  bool (*verify)();
};

Api Load(const char *path) {
  Api api = {};
  api.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (api.library == nullptr) Fail("dlopen");
  api.malloc = Symbol<void *(*)(size_t)>(api.library, "hak_malloc");
  api.calloc = Symbol<void *(*)(size_t, size_t)>(api.library, "hak_calloc");
  api.realloc = Symbol<void *(*)(void *, size_t)>(api.library, "hak_realloc");
  api.free = Symbol<void (*)(void *)>(api.library, "hak_free");
  api.verify = Symbol<bool (*)()>(api.library, "hak_heap_verify");
  return api;
}

void Use(const Api &api) {
  std::vector<unsigned char *> blocks;
  for (size_t i = 0; i < 300; ++i) {
    const size_t size = 1 + i * i % 5000 + (i % 50 == 0 ? 200000 : 0);
    auto *p = static_cast<unsigned char *>(i % 3 == 0 ? api.calloc(1, size) : api.malloc(size));
    if (p == nullptr) Fail("hak_malloc");
    memset(p, static_cast<int>(i & 0xFF), size);
    if (i % 7 == 0) p = static_cast<unsigned char *>(api.realloc(p, size + 1000));
    if (p == nullptr) Fail("hak_realloc");
    blocks.push_back(p);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i][0] != (i & 0xFF)) Fail("a live block changed");
    api.free(blocks[i]);
  }
  if (!api.verify()) Fail("hak_heap_verify");
}

// Threads that wait, use the library on request, wait again, and end on request.
class Crew {
 public:
  explicit Crew(size_t count) {
    for (size_t i = 0; i < count; ++i) threads_.emplace_back([this] { Work(); });
  }
  void UseNow(const Api *api) {
    std::unique_lock<std::mutex> lock(mutex_);
    api_ = api;
    done_ = 0;
    ++turn_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return done_ == threads_.size(); });
  }
  void End() {
    UseNow(nullptr);
    for (std::thread &thread : threads_) thread.join();
  }

 private:
  void Work() {
    for (size_t seen = 0;;) {
      const Api *api = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return turn_ != seen; });
        seen = turn_;
        api = api_;
      }
      if (api != nullptr) Use(*api);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++done_;
        changed_.notify_all();
      }
      if (api == nullptr) return;
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const Api *api_ = nullptr;
  size_t turn_ = 0;
  size_t done_ = 0;
};

int RunLoad(const char *path, char **others, int count) {
  for (int i = 0; i < count; ++i) {
    void *other = dlopen(others[i], RTLD_NOW | RTLD_LOCAL);
    if (other == nullptr) Fail(others[i]);
    // Touches it, so that its thread variables exist.
    Symbol<int (*)()>(other, "tls_user_touch")();
  }
  Crew older(3);
  Api api = Load(path);
  Use(api);
  older.UseNow(&api);
  Crew younger(3);
  younger.UseNow(&api);
  std::thread([&api] { Use(api); }).join();

  // RTLD_LOCAL: the program keeps its own malloc.
  Dl_info ours = {};
  Dl_info theirs = {};
  dladdr(reinterpret_cast<void *>(api.malloc), &theirs);
  dladdr(dlsym(RTLD_DEFAULT, "malloc"), &ours);
  if (ours.dli_fbase == theirs.dli_fbase) Fail("dlopen with RTLD_LOCAL took over malloc");

  // Threads with caches in the library outlive the handle, and end after it was closed.
  if (dlclose(api.library) != 0) Fail("dlclose");
  older.End();
  younger.End();
  for (int i = 0; i < 20; ++i) {
    api = Load(path);
    Use(api);
    std::thread([&api] { Use(api); }).join();
    if (dlclose(api.library) != 0) Fail("dlclose");
  }
  puts("good");
  return 0;
}

int RunExhaust(const char *path, char **hogs, int count) {
  int loaded = 0;
  for (; loaded < count; ++loaded) {
    void *hog = dlopen(hogs[loaded], RTLD_NOW | RTLD_LOCAL);
    if (hog == nullptr) {
      const char *error = dlerror();
      if (error == nullptr || strstr(error, "static TLS") == nullptr)
        Fail(error != nullptr ? error : "dlopen of a hog");
      break;
    }
    Symbol<int (*)()>(hog, "tls_user_touch")();
  }
  printf("hogs: %d\n", loaded);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *error = dlerror();
    printf("hakmem: %s\n", error != nullptr ? error : "no reason");
    // The program still works.
    std::thread([] { free(malloc(1000)); }).join();
    return 0;
  }
  const Api api = Load(path);
  Use(api);
  std::thread([&api] { Use(api); }).join();
  puts("hakmem: good");
  return 0;
}

// The resident pages and the mappings of the process.
struct Footprint {
  size_t pages = 0;
  size_t mappings = 0;
};

Footprint FootprintNow() {
  Footprint now;
  FILE *file = fopen("/proc/self/statm", "re");
  if (file == nullptr || fscanf(file, "%*u %zu", &now.pages) != 1) Fail("/proc/self/statm");
  fclose(file);
  file = fopen("/proc/self/maps", "re");
  if (file == nullptr) Fail("/proc/self/maps");
  for (int c; (c = fgetc(file)) != EOF;) now.mappings += c == '\n';
  fclose(file);
  return now;
}

int RunRounds(const char *path, bool leak) {
  constexpr int kRounds = 1000;
  Footprint early;
  for (int i = 0; i < kRounds; ++i) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) Fail("dlopen");
    if (Symbol<int (*)()>(plugin, "plugin_run")() != 0) Fail("plugin_run");
    void *made = Symbol<void *(*)()>(plugin, "plugin_make")();
    if (leak) made = calloc(1, 10000);
    if (!leak) free(made);
    if (made == nullptr || dlclose(plugin) != 0) Fail("dlclose");
    if (i == kRounds / 5) early = FootprintNow();
  }
  const Footprint late = FootprintNow();
  if (late.pages > early.pages + 256 || late.mappings > early.mappings + 8) {
    printf("grew from %zu to %zu pages and from %zu to %zu mappings\n", early.pages, late.pages, early.mappings,
           late.mappings);
    return 1;
  }
  puts("good");
  return 0;
}

void UsePlugin(const char *path) {
  for (int i = 0; i < 50; ++i) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) Fail("dlopen");
    void *(*const make)() = Symbol<void *(*)()>(plugin, "plugin_make");
    if (Symbol<int (*)()>(plugin, "plugin_run")() != 0) Fail("plugin_run");
    std::thread([make] { free(make()); }).join();
    void *kept = make();  // outlives the library that allocated it
    if (dlclose(plugin) != 0) Fail("dlclose");
    free(kept);
  }
}

int RunPlugin(const char *path) {
  UsePlugin(path);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) threads.emplace_back(UsePlugin, path);
  for (std::thread &thread : threads) thread.join();
  puts("good");
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "load") == 0) return RunLoad(argv[2], argv + 3, argc - 3);
  if (argc >= 4 && strcmp(argv[1], "exhaust") == 0) return RunExhaust(argv[2], argv + 3, argc - 3);
  if (argc == 3 && strcmp(argv[1], "rounds") == 0) return RunRounds(argv[2], false);
  if (argc == 3 && strcmp(argv[1], "leak") == 0) return RunRounds(argv[2], true);
  if (argc == 3 && strcmp(argv[1], "plugin") == 0) return RunPlugin(argv[2]);
  fprintf(stderr,
          "usage: %s load LIBHAKMEM [TLS_LIBRARY...] | exhaust LIBHAKMEM TLS_HOG... | rounds|leak|plugin PLUGIN\n",
          argv[0]);
  return 2;
}
