// SPDX-License-Identifier: Apache-2.0
//
// For c_host: a plugin that uses as little of the C++ runtime as can be. If the runtime is linked into it, only those
// parts exist that a failure of operator new needs.
#include <stddef.h>

#include <new>

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int plugin_run();
EXPORT void *(*const plugin_operator_new)(size_t);
void *(*const plugin_operator_new)(size_t) = ::operator new;

static volatile size_t too_much = size_t{1} << 46;
static void *volatile sink;

int plugin_run() {
  try {
    sink = ::operator new(too_much);
    return 1;
  } catch (const std::bad_alloc &exception) {
    if (exception.what()[0] == '\0') return 2;
  }
  sink = ::operator new(too_much, std::nothrow);
  return sink == nullptr ? 0 : 3;
}
