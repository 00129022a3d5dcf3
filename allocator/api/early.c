// SPDX-License-Identifier: Apache-2.0
//
// The program's entry in .preinit_array.
#include "allocator/api/early.h"

#include <limits.h>

#include "allocator/api/process.h"
#include "allocator/os/sys_call.h"

// The C library calls the functions of this section when all libraries are loaded and none is initialised. musl does
// not call them. A sanitizer's runtime may not be called before its own entry.
#if defined(__GLIBC__) && !HAK_SANITIZED
#define HAK_EARLY __attribute__((section(".preinit_array"), used))
#else
#define HAK_EARLY
#endif

HAK_EARLY void (*hak_early)(int argc, char **argv, char **environment) = hak_process_start_hooks;
