// SPDX-License-Identifier: Apache-2.0
//
// Finds the program that execvp would start, and judges whether a preloaded library takes effect in it.
#include "packaging/run/judge.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "packaging/run/elf_symbols.h"
#include "packaging/run/machine.h"

// The installed library is for the C library with which this program was built.
#ifdef __GLIBC__
#define OTHER_LINKER "ld-musl-"
#define OTHER_RUNS "runs on musl: this libhakmem.so is for the GNU C library"
#else
#define OTHER_LINKER "ld-linux-"
#define OTHER_RUNS "runs on the GNU C library: this libhakmem.so is for another one"
#endif

// The kernel follows at most four interpreters of interpreters.
#define DEPTH_MAX 5

static void decide(struct judgement *judgement, enum verdict verdict, const char *file, const char *what) {
  judgement->verdict = verdict;
  snprintf(judgement->text, sizeof judgement->text, "%s %s", file, what);
}

// ---- Finding the file ----------------------------------------------------------------------------

static bool is_runnable(const char *file) {
  struct stat status;
  return stat(file, &status) == 0 && S_ISREG(status.st_mode) && access(file, X_OK) == 0;
}

// Searches as execvp does, for the first file that can be run. False: there is none, and the judgement is set.
static bool find_program(const char *name, const char *path, char file[PATH_MAX], struct judgement *judgement) {
  char standard[PATH_MAX];
  bool seen = false;
  if (*name == '\0') {
    decide(judgement, VERDICT_MISSING, "\"\"", "is no name of a program");
    return false;
  }
  if (strchr(name, '/') != NULL) {
    snprintf(file, PATH_MAX, "%s", name);
    if (is_runnable(file)) return true;
    seen = access(file, F_OK) == 0;
  } else {
    if (path == NULL) path = confstr(_CS_PATH, standard, sizeof standard) != 0 ? standard : "";
    for (;;) {
      const size_t length = strcspn(path, ":");
      // An empty part of PATH is the current directory.
      const int printed = snprintf(file, PATH_MAX, "%.*s%s%s", (int)length, path, length != 0 ? "/" : "./", name);
      if (printed < PATH_MAX && is_runnable(file)) return true;
      if (printed < PATH_MAX && access(file, F_OK) == 0) seen = true;
      if (path[length] == '\0') break;
      path += length + 1;
    }
  }
  if (seen) {
    decide(judgement, VERDICT_NOT_EXECUTABLE, name, "is not an executable file");
  } else {
    decide(judgement, VERDICT_MISSING, name, "is not found");
  }
  return false;
}

// ---- Privileges ----------------------------------------------------------------------------------

// Why the kernel starts the file with raised privileges, or NULL.
static const char *raised(const char *file) {
  struct stat status;
  struct statvfs system;
  if (stat(file, &status) != 0) return NULL;
  // On such a file system neither bits nor capabilities raise privileges.
  if (statvfs(file, &system) == 0 && (system.f_flag & ST_NOSUID) != 0) return NULL;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return NULL;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid()) {
    return "is setuid: the dynamic linker ignores LD_PRELOAD in it";
  }
  // Without the group's execute permission the bit means something else.
  if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 && status.st_gid != getgid()) {
    return "is setgid: the dynamic linker ignores LD_PRELOAD in it";
  }
  if (getuid() != 0 && getxattr(file, "security.capability", NULL, 0) > 0) {
    return "has file capabilities: the dynamic linker ignores LD_PRELOAD in it";
  }
  return NULL;
}

// ---- ELF -----------------------------------------------------------------------------------------

static bool read_at(int fd, void *buffer, size_t size, uint64_t offset) {
  return offset <= INT64_MAX && pread(fd, buffer, size, (off_t)offset) == (ssize_t)size;
}

// Names of malloc in allocators that a program may use beside the C library's, and what they are called.
static const struct {
  const char *function;
  const char *allocator;
} built_in[] = {
    {"_rjem_malloc", "jemalloc"}, {"je_malloc", "jemalloc"},     {"mi_malloc", "mimalloc"},
    {"rpmalloc", "rpmalloc"},     {"sn_rust_alloc", "snmalloc"}, {"tc_malloc", "tcmalloc"},
};

enum { MALLOC = 0, OUR_MALLOC = 1, BUILT_IN = 2, LOOKED_FOR = BUILT_IN + sizeof built_in / sizeof built_in[0] };

// Judges a dynamically linked program by the allocators in it. hakmem's malloc has a second name, which is among the
// program's own symbols.
static void judge_definitions(const char *file, int fd, struct judgement *judgement) {
  const char *names[LOOKED_FOR] = {[MALLOC] = "malloc", [OUR_MALLOC] = "hak_override_malloc"};
  for (size_t i = BUILT_IN; i < LOOKED_FOR; i++) names[i] = built_in[i - BUILT_IN].function;
  enum elf_definition found[LOOKED_FOR];
  elf_find_functions(fd, names, LOOKED_FOR, found);
  if (found[MALLOC] == ELF_SHOWN && found[OUR_MALLOC] != ELF_NONE) {
    decide(judgement, VERDICT_UNAFFECTED, file, "is linked with hakmem, and uses that one: the library is not needed");
    return;
  }
  if (found[MALLOC] == ELF_SHOWN) {
    decide(judgement, VERDICT_UNAFFECTED, file, "brings its own malloc, which comes before that of any library");
    return;
  }
  if (found[MALLOC] == ELF_INSIDE) {
    decide(judgement, VERDICT_PARTLY, file, "brings its own malloc for itself");
    return;
  }
  for (size_t i = BUILT_IN; i < LOOKED_FOR; i++) {
    if (found[i] == ELF_NONE) continue;
    char what[128];
    snprintf(what, sizeof what, "brings %s (%s) for itself", built_in[i - BUILT_IN].allocator, names[i]);
    decide(judgement, VERDICT_PARTLY, file, what);
    return;
  }
}

static void judge_elf(const char *file, int fd, struct judgement *judgement) {
  Elf64_Ehdr head;
  if (!read_at(fd, &head, sizeof head, 0)) {
    decide(judgement, VERDICT_NOT_EXECUTABLE, file, "is cut short: no whole ELF header");
    return;
  }
  if (head.e_ident[EI_CLASS] != ELFCLASS64) {
    decide(judgement, VERDICT_UNAFFECTED, file,
           "is a 32-bit program: libhakmem.so is a 64-bit library, for " OUR_MACHINE_NAME);
    return;
  }
  if (head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_machine != OUR_MACHINE) {
    char what[128];
    snprintf(what, sizeof what, "is for another processor (ELF machine %u): libhakmem.so is for " OUR_MACHINE_NAME,
             head.e_ident[EI_DATA] == ELFDATA2LSB ? head.e_machine : __builtin_bswap16(head.e_machine));
    decide(judgement, VERDICT_UNAFFECTED, file, what);
    return;
  }
  for (uint32_t i = 0; i < head.e_phnum; i++) {
    Elf64_Phdr segment;
    if (head.e_phentsize != sizeof segment ||
        !read_at(fd, &segment, sizeof segment, head.e_phoff + i * sizeof segment)) {
      decide(judgement, VERDICT_NOT_EXECUTABLE, file, "is cut short: no whole ELF program header");
      return;
    }
    if (segment.p_type != PT_INTERP) continue;
    char linker[PATH_MAX] = "";
    if (segment.p_filesz >= sizeof linker || !read_at(fd, linker, segment.p_filesz, segment.p_offset)) break;
    const char *base = strrchr(linker, '/');
    if (strncmp(base != NULL ? base + 1 : linker, OTHER_LINKER, strlen(OTHER_LINKER)) == 0) {
      decide(judgement, VERDICT_INCOMPATIBLE, file, OTHER_RUNS);
    } else {
      judge_definitions(file, fd, judgement);
    }
    return;
  }
  decide(judgement, VERDICT_UNAFFECTED, file, "is statically linked: no dynamic linker reads LD_PRELOAD for it");
}

// ---- Scripts -------------------------------------------------------------------------------------

static void judge(const char *name, const char *path, int depth, struct judgement *judgement);

// Takes the next word of a script's first line, or NULL; `*rest` then points behind it.
static char *next_word(char **rest) {
  char *word = *rest + strspn(*rest, " \t");
  if (*word == '\0') return NULL;
  *rest = word + strcspn(word, " \t");
  if (**rest != '\0') *(*rest)++ = '\0';
  return word;
}

// `line`: the text after "#!".
static void judge_script(const char *file, char *line, const char *path, int depth, struct judgement *judgement) {
  line[strcspn(line, "\n")] = '\0';
  char *interpreter = next_word(&line);
  if (interpreter == NULL) {
    decide(judgement, VERDICT_NOT_EXECUTABLE, file, "is a script without an interpreter behind its #!");
    return;
  }
  const char *base = strrchr(interpreter, '/');
  base = base != NULL ? base + 1 : interpreter;
  judge(interpreter, NULL, depth + 1, judgement);
  if (judgement->verdict != VERDICT_AFFECTED || strcmp(base, "env") != 0) return;
  // env's own options and variables come before the program.
  char *word = next_word(&line);
  while (word != NULL && (*word == '-' || strchr(word, '=') != NULL)) word = next_word(&line);
  if (word != NULL) judge(word, path, depth + 1, judgement);
}

static void judge(const char *name, const char *path, int depth, struct judgement *judgement) {
  char file[PATH_MAX];
  char head[4096];
  if (!find_program(name, path, file, judgement)) return;
  if (depth >= DEPTH_MAX) {
    decide(judgement, VERDICT_NOT_EXECUTABLE, file, "is an interpreter of too many interpreters");
    return;
  }
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    // A file that may be run but not read cannot be examined, except for its mode.
    const char *why = raised(file);
    if (why != NULL) decide(judgement, VERDICT_UNAFFECTED, file, why);
    return;
  }
  const ssize_t length = pread(fd, head, sizeof head - 1, 0);
  head[length > 0 ? length : 0] = '\0';
  if (length >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
    judge_elf(file, fd, judgement);
    const char *why = raised(file);
    const bool runs = judgement->verdict == VERDICT_AFFECTED || judgement->verdict == VERDICT_PARTLY;
    if (why != NULL && runs) decide(judgement, VERDICT_UNAFFECTED, file, why);
  } else if (length >= 2 && head[0] == '#' && head[1] == '!') {
    judge_script(file, head + 2, path, depth, judgement);
  } else {
    judge("/bin/sh", NULL, depth + 1, judgement);
  }
  close(fd);
}

void judge_program(const char *name, const char *path, struct judgement *judgement) {
  judgement->verdict = VERDICT_AFFECTED;
  judgement->text[0] = '\0';
  judge(name, path, 0, judgement);
}
