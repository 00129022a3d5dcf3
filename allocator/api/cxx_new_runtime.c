// SPDX-License-Identifier: Apache-2.0
//
// What operator new needs from the C++ runtime: the program's new handler, std::bad_alloc, and exception handling for
// cxx_new.cc. A program linked with the archive has the runtime. The shared library is also used by programs in C,
// where the runtime arrives with a plugin in C++ and is visible only to that plugin (RTLD_LOCAL), or is a part of the
// plugin (-static-libstdc++), so that each plugin may have another one. So it is looked up each time it is needed,
// which is when memory has run out; no lock is held then.
#include <stdint.h>

#include "allocator/api/cxx_new.h"
#include "allocator/os/report.h"

// From the Itanium C++ ABI. Weak, because only a program in C++ has them.
#define RUNTIME __attribute__((weak))
RUNTIME hak_new_handler _ZSt15get_new_handlerv(void);  // std::get_new_handler()
RUNTIME int __gxx_personality_v0(int version, int actions, uint64_t exception_class, void *exception, void *context);
RUNTIME void *__cxa_begin_catch(void *exception);
RUNTIME void __cxa_end_catch(void);
RUNTIME __attribute__((noreturn)) void _Unwind_Resume(void *exception);

#ifdef HAK_NEW_MUST_THROW

#define FIND(symbol, code) ((void)(code), &(symbol))

// std::__throw_bad_alloc(). The linker must find it.
__attribute__((noreturn)) void _ZSt17__throw_bad_allocv(void);

void hak_throw_bad_alloc(const void *caller) {
  (void)caller;
  _ZSt17__throw_bad_allocv();
}

#else

#include <dlfcn.h>

#include "allocator/api/object.h"

// Before glibc 2.34 they are in a separate library, which every program that loads plugins has.
#pragma weak dlopen
#pragma weak dlsym
#pragma weak dlclose
#pragma weak dlerror

#define PERSONALITY "__gxx_personality_v0"

// The symbol, as code of `object` would find it if its own definitions came first.
static const void *symbol_in(const char *object, const char *symbol) {
  void *const handle = dlopen(object[0] != '\0' ? object : NULL, RTLD_LAZY | RTLD_NOLOAD);
  const void *const found = handle != NULL ? dlsym(handle, symbol) : NULL;
  // The caller is code of the object, or of one that needs it, and keeps it loaded.
  if (handle != NULL && dlclose != NULL) dlclose(handle);
  return found;
}

// The personality routine of the runtime that `code` uses: two plugins may have different runtimes, which do not know
// each other's exceptions and handlers.
static const void *personality_of(const void *code) {
  // An object whose code handles exceptions refers to the routine. Where it was bound to decides between a runtime of
  // its own and one that is visible to all.
  const void *found = code != NULL ? hak_object_binding(code, PERSONALITY) : NULL;
  if (found != NULL) return found;
  const char *const object = code != NULL ? hak_object_name(code) : NULL;
  if (object != NULL) found = symbol_in(object, PERSONALITY);
  // The right object is not known if a function whose last act is to call operator new has left the stack. Then what is
  // visible to all (""), or a library that is visible only to some.
  static const char *const others[] = {"", "libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
  for (size_t i = 0; found == NULL && i < sizeof others / sizeof others[0]; i++) {
    found = symbol_in(others[i], PERSONALITY);
  }
  return found;
}

// The symbol of the runtime that `code` uses, or NULL. Never another runtime's: it may not be compatible.
static const void *look_up(const char *symbol, const void *code) {
  if (dlopen == NULL || dlsym == NULL) return NULL;
  const void *const personality = personality_of(code);
  const char *const runtime = personality != NULL ? hak_object_name(personality) : NULL;
  const void *const found = runtime != NULL ? symbol_in(runtime, symbol) : NULL;
  // Of what was not found the program need not know.
  if (dlerror != NULL) (void)dlerror();  // NOLINT(concurrency-mt-unsafe): each thread has its own message
  return found != NULL && hak_object_name(found) == runtime ? found : NULL;
}

// The symbol that the dynamic linker found when the program started, which plugins use as well. Otherwise the one that
// is found now.
#define FIND(symbol, code) (&(symbol) != NULL ? &(symbol) : (__typeof__(&(symbol)))(uintptr_t)look_up(#symbol, code))

// What `throw std::bad_alloc()` is made of. (std::__throw_bad_alloc() is missing where a runtime is linked into a
// plugin that does not use it.)
RUNTIME void *__cxa_allocate_exception(size_t size);
RUNTIME __attribute__((noreturn)) void __cxa_throw(void *exception, const void *type, void (*destructor)(void *));
struct type;
struct functions {
  ptrdiff_t offset;
  const struct type *type;
  void (*first)(void);
};
RUNTIME extern const struct type _ZTISt9bad_alloc;       // typeid(std::bad_alloc)
RUNTIME extern const struct functions _ZTVSt9bad_alloc;  // its virtual functions

void hak_throw_bad_alloc(const void *caller) {
  void *(*const allocate)(size_t) = FIND(__cxa_allocate_exception, caller);
  void (*const throw)(void *, const void *, void (*)(void *)) = FIND(__cxa_throw, caller);
  const struct type *const type = FIND(_ZTISt9bad_alloc, caller);
  const struct functions *const functions = FIND(_ZTVSt9bad_alloc, caller);
  if (allocate == NULL || throw == NULL || type == NULL || functions == NULL) {
    hak_fatal("out of memory in operator new, and its caller shows no C++ runtime to throw", caller);
  }
  // An exception has no members. Its destructor, which would do nothing, is left out.
  void (*const **const exception)(void) = allocate(sizeof *exception);
  *exception = &functions->first;
  throw(exception, type, NULL);
  __builtin_unreachable();
}

#endif

hak_new_handler hak_get_new_handler(const void *caller) {
  hak_new_handler (*function)(void) = FIND(_ZSt15get_new_handlerv, caller);
  return function != NULL ? function() : NULL;
}

// ---- Names by which cxx_new.cc calls the runtime --------------------------------------------------

HAK_C_BEGIN
int hak_cxx_personality(int version, int actions, uint64_t exception_class, void *exception, void *context);
void *hak_cxx_begin_catch(void *exception);
void hak_cxx_end_catch(void);
__attribute__((noreturn)) void hak_cxx_resume(void *exception);
HAK_C_END

#define URC_CONTINUE_UNWIND 8

// The beginning of every exception.
struct exception {
  uint64_t class;
  void (*cleanup)(int reason, struct exception *exception);
};

// An address in the runtime that threw the exception. It alone can handle it: the counts of exceptions that are thrown
// and caught are its own, and so is the unwinder.
static const void *thrower(const void *exception) {
  return (const void *)(uintptr_t)((const struct exception *)exception)->cleanup;
}

int hak_cxx_personality(int version, int actions, uint64_t exception_class, void *exception, void *context) {
  int (*function)(int, int, uint64_t, void *, void *) = FIND(__gxx_personality_v0, thrower(exception));
  // In a process without C++ this is an exception of another language, and nothing can catch it.
  return function != NULL ? function(version, actions, exception_class, exception, context) : URC_CONTINUE_UNWIND;
}

// The end of a catch is not told which exception it ends. The parts of cxx_new.cc catch one at a time.
static _Thread_local void (*end_catch)(void);

void *hak_cxx_begin_catch(void *exception) {
  end_catch = FIND(__cxa_end_catch, thrower(exception));
  void *(*function)(void *) = FIND(__cxa_begin_catch, thrower(exception));
  return function != NULL ? function(exception) : NULL;
}

void hak_cxx_end_catch(void) {
  if (end_catch != NULL) end_catch();
}

// For clean-up, which no part of cxx_new.cc has.
void hak_cxx_resume(void *exception) {
  void (*function)(void *) = FIND(_Unwind_Resume, thrower(exception));
  if (function != NULL) function(exception);
  hak_fatal("an exception in operator new, and no C++ runtime to pass it on", NULL);
}
