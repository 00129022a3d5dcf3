// SPDX-License-Identifier: Apache-2.0
//
// Which functions a 64-bit little-endian ELF file defines, and which libraries it needs.
#ifndef HAKMEM_PACKAGING_RUN_ELF_SYMBOLS_H_
#define HAKMEM_PACKAGING_RUN_ELF_SYMBOLS_H_

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum elf_definition {
  ELF_NONE,    // no definition, or none that can be read: the file is stripped, or damaged
  ELF_INSIDE,  // in the file's own symbols only: the file's calls reach it
  ELF_SHOWN    // in the dynamic symbols: all the process's calls reach it if the file is the program
};

// Looks for `count` functions by their names, and sets `found` of each. Returns whether the file has symbols of its
// own, besides the dynamic ones.
bool elf_find_functions(int fd, const char *const *names, size_t count, enum elf_definition *found);

// Whether the file needs a shared library whose name begins so.
bool elf_needs(int fd, const char *name);

#ifdef __cplusplus
}
#endif

#endif  // HAKMEM_PACKAGING_RUN_ELF_SYMBOLS_H_
