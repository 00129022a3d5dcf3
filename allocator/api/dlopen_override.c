// SPDX-License-Identifier: Apache-2.0
//
// dlopen, in libhakmem.so only: drops RTLD_DEEPBIND while hakmem is the process's malloc. A library that is loaded with
// this flag is bound to the C library's malloc and free, also under LD_PRELOAD, and the C library itself to hakmem's.
// So the library frees what strdup or getline allocated on the other allocator.
//
// musl ignores the flag. A sanitizer has its own dlopen, and reports the flag. Before glibc 2.34 dlopen is in a library
// of its own, which the program may not have loaded when it starts.
#include <dlfcn.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>

#include "allocator/gate/gate.h"
#include "allocator/observe/owns.h"
#include "allocator/os/atomic.h"
#include "allocator/os/base.h"
#include "allocator/os/sys_call.h"
#include "allocator/policy/config.h"

#ifdef __GLIBC__
#define HAS_FLAG __GLIBC_PREREQ(2, 34)
#else
#define HAS_FLAG 0
#endif

#if HAS_FLAG && !HAK_SANITIZED

bool hak_gate_wraps_dlopen = true;

// The dynamic linker takes the code at the return address for the caller of dlopen, and looks for the file where the
// RUNPATH and $ORIGIN of that object say. So dlopen has to jump to the next dlopen, without a frame of its own, also in
// builds that are not optimised.
#ifdef __clang__
#define TAIL_CALLS
#define TAIL __attribute__((musttail))
#else
#define TAIL_CALLS __attribute__((optimize("O2")))
#define TAIL
#endif

typedef void *dlopen_function(const char *file, int flags);

// The dlopen behind this one: the C library's, or that of another preloaded library. NULL: not looked for yet.
static HAK_ATOMIC(dlopen_function *) next;

static void *refuse(const char *file, int flags) {
  (void)file;
  (void)flags;
  return NULL;
}

// dlsym allocates nothing when it finds the name.
static HAK_NOINLINE dlopen_function *find_next(void) {
  // Relaxed: the code that it points to was there before, and every thread finds the same.
  dlopen_function *found = atomic_load_explicit(&next, memory_order_relaxed);
  if (HAK_LIKELY(found != NULL)) return found;
  *(void **)&found = dlsym(RTLD_NEXT, "dlopen");
  // Only if the C library is searched before this library. dlerror tells.
  if (found == NULL) return refuse;
  // Relaxed: as above.
  atomic_store_explicit(&next, found, memory_order_relaxed);
  return found;
}

// At the start, because dlsym waits for the dynamic linker's lock.
__attribute__((constructor(101))) static void find_at_start(void) { (void)find_next(); }

// Whether the process allocates here. Only a call tells: the program may bring its own malloc, and the address of a
// function may be that of a stub in the program. realloc, which is not inlined, is bound as malloc is.
static bool is_in_use(void) {
  void *block = realloc(NULL, 1);
  const bool ours = block == NULL || hak_is_block(block);
  free(block);
  return ours;
}

// The setting is known after an allocation.
static HAK_NOINLINE int without_deepbind(int flags) {
  if (HAK_LIKELY((flags & RTLD_DEEPBIND) == 0)) return flags;
  return is_in_use() && HAK_SETTING(drop_deepbind) ? flags & ~RTLD_DEEPBIND : flags;
}

HAK_EXPORT TAIL_CALLS void *dlopen(const char *file, int flags) {
  const int kept = without_deepbind(flags);
  TAIL return find_next()(file, kept);
}

#endif
