// SPDX-License-Identifier: Apache-2.0
//
// usage: in_use PROGRAM
//
// Tells by the file of a program, of any processor, whether its malloc is hakmem's: linked in, or in the libhakmem.so
// that it names; or, in a build with a sanitizer, whether it would be. Exit status 0 if so, 1 after a line with the
// reason if not, 2 for wrong use. //configs:in_use_test.bzl runs it.
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "packaging/run/elf_symbols.h"

#define RIGHT_LABEL "malloc = \"@hakmem//allocator:malloc\""

enum { MALLOC, OURS, SANITIZED, PREFIXED, LOOKED_FOR };

// The reason why the malloc is another one, or NULL. `*whose`: whose it is.
static const char *reason(int fd, const char **whose) {
  static const char *const names[LOOKED_FOR] = {"malloc", "hak_override_malloc", "hak_override_sanitized",
                                                "hak_cold_malloc"};
  unsigned char magic[SELFMAG];
  if (pread(fd, magic, sizeof magic, 0) != (ssize_t)sizeof magic || memcmp(magic, ELFMAG, SELFMAG) != 0) {
    return "is no ELF file: name the cc_binary or cc_test that is to use hakmem";
  }
  enum elf_definition found[LOOKED_FOR];
  const bool complete = elf_find_functions(fd, names, LOOKED_FOR, found);
  *whose = "hakmem's malloc";
  if (found[MALLOC] != ELF_NONE && found[OURS] != ELF_NONE) return NULL;
  if (found[MALLOC] == ELF_NONE && elf_needs(fd, "libhakmem.so")) return NULL;
  if (found[SANITIZED] != ELF_NONE) {
    *whose = "the malloc of its sanitizer, and without one hakmem's";
    return NULL;
  }
  if (!complete) return "has no symbols that tell: it is stripped";
  if (found[PREFIXED] != ELF_NONE) {
    return "has only the functions hak_* of hakmem, beside another malloc: " RIGHT_LABEL ", not :hakmem";
  }
  if (found[MALLOC] != ELF_NONE)
    return "has another malloc linked in, perhaps that of a static C library: " RIGHT_LABEL;
  return "has the C library's malloc: " RIGHT_LABEL;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fputs("usage: in_use PROGRAM\n", stderr);
    return 2;
  }
  const int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    perror(argv[1]);
    return 2;
  }
  const char *whose = NULL;
  const char *why = reason(fd, &whose);
  close(fd);
  if (why == NULL) {
    printf("%s has %s\n", argv[1], whose);
    return 0;
  }
  printf("FAILED: %s %s\n", argv[1], why);
  return 1;
}
