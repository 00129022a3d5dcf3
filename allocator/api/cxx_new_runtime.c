// SPDX-License-Identifier: Apache-2.0
//
// What operator new needs from the C++ runtime: the program's new handler, std::bad_alloc, and exception handling for
// cxx_new.cc. A program linked with the archive has the runtime. The shared library is also used by programs in C,
// where the runtime arrives with the first plugin in C++ and is visible only to that plugin (RTLD_LOCAL). So it is
// looked up each time it is needed, which is when memory has run out; no lock is held then.
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
// std::__throw_bad_alloc(). With HAK_NEW_MUST_THROW the linker must find it.
#ifndef HAK_NEW_MUST_THROW
RUNTIME
#endif
__attribute__((noreturn)) void _ZSt17__throw_bad_allocv(void);

#ifdef HAK_NEW_MUST_THROW

#define FIND(function) (function)

#else

#include <dlfcn.h>

// Before glibc 2.34 it is in a separate library, which every program that loads plugins has.
#pragma weak dlopen
#pragma weak dlsym
#pragma weak dlclose

static void *look_up(const char *name) {
  if (dlsym == NULL) return NULL;
  void *found = dlsym(RTLD_DEFAULT, name);
  static const char *const runtimes[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1", "libgcc_s.so.1"};
  for (size_t i = 0; found == NULL && i < sizeof runtimes / sizeof runtimes[0]; i++) {
    void *library = dlopen != NULL ? dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD) : NULL;
    if (library == NULL) continue;
    found = dlsym(library, name);
    // The caller is code of the program or a plugin, which keeps the runtime loaded.
    if (dlclose != NULL) dlclose(library);
  }
  return found;
}

// The function that the linker found, otherwise the one that is found now.
#define FIND(function) ((function) != NULL ? (function) : (__typeof__(&(function)))(uintptr_t)look_up(#function))

#endif

hak_new_handler hak_get_new_handler(void) {
  hak_new_handler (*function)(void) = FIND(_ZSt15get_new_handlerv);
  return function != NULL ? function() : NULL;
}

void hak_throw_bad_alloc(void) {
  void (*function)(void) = FIND(_ZSt17__throw_bad_allocv);
  if (function != NULL) function();
  hak_fatal("out of memory in operator new, and no C++ runtime to throw", NULL);
}

// ---- Names by which cxx_new.cc calls the runtime --------------------------------------------------

HAK_C_BEGIN
int hak_cxx_personality(int version, int actions, uint64_t exception_class, void *exception, void *context);
void *hak_cxx_begin_catch(void *exception);
void hak_cxx_end_catch(void);
__attribute__((noreturn)) void hak_cxx_resume(void *exception);
HAK_C_END

#define URC_CONTINUE_UNWIND 8

int hak_cxx_personality(int version, int actions, uint64_t exception_class, void *exception, void *context) {
  int (*function)(int, int, uint64_t, void *, void *) = FIND(__gxx_personality_v0);
  // In a process without C++ this is an exception of another language, and nothing can catch it.
  return function != NULL ? function(version, actions, exception_class, exception, context) : URC_CONTINUE_UNWIND;
}

void *hak_cxx_begin_catch(void *exception) {
  void *(*function)(void *) = FIND(__cxa_begin_catch);
  return function != NULL ? function(exception) : NULL;
}

void hak_cxx_end_catch(void) {
  void (*function)(void) = FIND(__cxa_end_catch);
  if (function != NULL) function();
}

void hak_cxx_resume(void *exception) {
  void (*function)(void *) = FIND(_Unwind_Resume);
  if (function != NULL) function(exception);
  hak_fatal("an exception in operator new, and no C++ runtime to pass it on", NULL);
}
