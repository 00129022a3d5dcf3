// SPDX-License-Identifier: Apache-2.0
//
// A library for dlopen_host: it allocates when it is loaded, while it is used and for each thread, and frees when it is
// closed. It also has a thread variable, for the runs that load hakmem after many libraries with thread variables.
#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <string>
#include <vector>

extern "C" {
__attribute__((visibility("default"))) int plugin_run(void);
__attribute__((visibility("default"))) void *plugin_make(void);
__attribute__((visibility("default"))) int tls_user_touch(void);
}

namespace {

// Built by the library's constructors, freed by its destructors.
std::vector<std::string> g_strings(100, std::string(300, 'p'));
std::mutex g_mutex;
void *g_raw = malloc(70000);

struct Releaser {
  ~Releaser() { free(g_raw); }
} g_releaser;

thread_local char t_large[2000];
thread_local std::string *t_string = nullptr;

}  // namespace

int plugin_run() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  for (const std::string &s : g_strings) {
    if (s != std::string(300, 'p')) return 1;
  }
  g_strings.push_back(std::string(300, 'p'));
  return g_raw == nullptr ? 1 : 0;
}

void *plugin_make() {
  delete t_string;
  t_string = new std::string(1000, 't');
  void *p = malloc(500);
  if (p != nullptr) memset(p, 1, 500);
  delete t_string;
  t_string = nullptr;
  return p;
}

int tls_user_touch() {
  t_large[1999] = 1;
  return t_large[1999];
}
