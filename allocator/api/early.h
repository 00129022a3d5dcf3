// SPDX-License-Identifier: Apache-2.0
//
// Registers the fork handlers of a program that contains the allocator before any library's constructor runs, so that
// handlers that libraries register in their constructors enclose ours (api/process.c). Only a program can do so: the
// linker refuses a shared object with a .preinit_array.
#ifndef HAKMEM_API_EARLY_H_
#define HAKMEM_API_EARLY_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The entry of .preinit_array. The option --undefined=hak_early of a linker takes it from the archive.
extern void (*hak_early)(int argc, char **argv, char **environment);

HAK_C_END

#endif  // HAKMEM_API_EARLY_H_
