// SPDX-License-Identifier: Apache-2.0
//
// For c_host: failures of operator new, and new handlers, in a process whose C++ runtime was loaded with this library,
// or is a part of it.
#include <stddef.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <vector>

namespace {

volatile size_t too_much = size_t{1} << 46;
constexpr std::align_val_t kAlign{256};
const void *volatile sink;
int calls;

struct Anything {};

void GiveUpAtTheThird() {
  if (++calls == 3) std::set_new_handler(nullptr);
}
void ThrowBadAlloc() {
  calls++;
  throw std::bad_alloc();
}
void ThrowAnything() {
  calls++;
  throw Anything();
}

template <typename Exception, typename Body>
bool Throws(Body body) {
  try {
    void *volatile block = body();
    (void)block;
  } catch (const Exception &) {
    return true;
  } catch (...) {
    return false;
  }
  return false;
}

// Each form of new with this handler; `kExpected` is what the throwing forms throw.
template <typename Exception>
bool EachForm(void (*handler)(), int calls_each) {
  const auto refused = [&](auto body) {
    calls = 0;
    std::set_new_handler(handler);
    const bool right = body() && calls == calls_each;
    std::set_new_handler(nullptr);
    return right;
  };
  const std::nothrow_t &quiet = std::nothrow;
  return refused([] { return Throws<Exception>([] { return ::operator new(too_much); }); }) &&
         refused([] { return Throws<Exception>([] { return ::operator new[](too_much); }); }) &&
         refused([] { return Throws<Exception>([] { return ::operator new(too_much, kAlign); }); }) &&
         refused([] { return Throws<Exception>([] { return ::operator new[](too_much, kAlign); }); }) &&
         refused([&] { return ::operator new(too_much, quiet) == nullptr; }) &&
         refused([&] { return ::operator new[](too_much, quiet) == nullptr; }) &&
         refused([&] { return ::operator new(too_much, kAlign, quiet) == nullptr; }) &&
         refused([&] { return ::operator new[](too_much, kAlign, quiet) == nullptr; });
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT int plugin_run();
EXPORT void *(*const plugin_operator_new)(size_t);
void *(*const plugin_operator_new)(size_t) = ::operator new;

extern "C" int plugin_run() {
  if (!Throws<std::bad_alloc>([] {
        std::vector<char> huge(too_much);
        sink = huge.data();
        return nullptr;
      })) {
    return 1;
  }
  if (!EachForm<std::bad_alloc>(nullptr, 0)) return 2;
  if (!EachForm<std::bad_alloc>(GiveUpAtTheThird, 3)) return 3;
  if (!EachForm<std::bad_alloc>(ThrowBadAlloc, 1)) return 4;
  if (!EachForm<Anything>(ThrowAnything, 1)) return 5;
  // A runtime counts what it throws and catches. It counts wrong if another one takes part.
  if (std::uncaught_exceptions() != 0 || std::current_exception() != nullptr) return 7;
  // All of this leaves no block live.
  std::vector<int> numbers(1000, 7);
  return numbers[999] == 7 ? 0 : 6;
}
