// SPDX-License-Identifier: Apache-2.0
//
// For c_host: a function whose last act is to call operator new. It has left the stack by then, so that operator new
// sees a caller in the program in C, which has no C++ runtime.
#include <stddef.h>

#include <new>

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int plugin_run();
EXPORT void *(*const plugin_operator_new)(size_t);
void *(*const plugin_operator_new)(size_t) = ::operator new;
// Calls the function; the program sets it.
EXPORT void *(*plugin_call)(void *(*)());
void *(*plugin_call)(void *(*)()) = nullptr;

static volatile size_t too_much = size_t{1} << 46;
static int calls;

static void GiveUpAtTheThird() {
  if (++calls == 3) std::set_new_handler(nullptr);
}

static void *LastAct() { return ::operator new(too_much, std::nothrow); }

int plugin_run() {
  if (plugin_call == nullptr) return 1;
  calls = 0;
  std::set_new_handler(GiveUpAtTheThird);
  void *const block = plugin_call(LastAct);
  std::set_new_handler(nullptr);
  if (block != nullptr) return 2;
  return calls == 3 ? 0 : 3;
}
