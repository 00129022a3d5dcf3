// SPDX-License-Identifier: Apache-2.0
//
// hakmem-run: runs a program on hakmem's malloc, by LD_PRELOAD of the libhakmem.so that is installed with it
// (hakmem-run(1)). If the program would silently use another malloc, it says so and does not run it.
#include <errno.h>
#include <getopt.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "packaging/run/judge.h"
#include "packaging/run/machine.h"

#define LIBRARY "libhakmem.so.0"

enum { EXIT_USAGE = 2, EXIT_NOT_EXECUTABLE = 126, EXIT_MISSING = 127 };

#define STRING(x) #x
#define VERSION_STRING(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

static const char usage[] =
    "usage: hakmem-run [-f] [-p PRESET] [--profile PROFILE | -l LIBRARY] [NAME=VALUE]... PROGRAM [ARGUMENT]...\n"
    "  -p PRESET   balanced, speed or lean: HAKMEM_PROFILE\n"
    "  --profile PROFILE  fast, standard, observe or hardened: this build of the library, if all are installed\n"
    "  -l LIBRARY  this libhakmem.so, not the installed one\n"
    "  -f          run PROGRAM even if it stays on another malloc (its own, setuid, static, another processor)\n"
    "  -h, -V      print this help, or the version\n"
    "NAME=VALUE goes into the environment of PROGRAM: HAKMEM_SHOW_CONFIG=1, for instance.\n";

__attribute__((noreturn)) static void fail(int status, const char *first, const char *second) {
  fprintf(stderr, "hakmem-run: %s%s\n", first, second);
  exit(status);
}

// The library that is installed with this program; `profile` is NULL, or names one of several builds.
static void find_library(char library[PATH_MAX], const char *profile) {
  static const char *const places[] = {("../lib/" OUR_MULTIARCH), "../lib", "../lib64"};
  char self[PATH_MAX];
  // Not /proc/self/exe, because there may be no /proc.
  const char *started = (const char *)getauxval(AT_EXECFN);
  if (started == NULL || realpath(started, self) == NULL) {
    fail(EXIT_USAGE, "cannot tell where it is installed: ", strerror(errno));
  }
  *strrchr(self, '/') = '\0';
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    char candidate[2 * PATH_MAX];
    snprintf(candidate, sizeof candidate, "%s/%s/%s%s%s" LIBRARY, self, places[i], profile != NULL ? "hakmem/" : "",
             profile != NULL ? profile : "", profile != NULL ? "/" : "");
    if (access(candidate, R_OK) == 0 && realpath(candidate, library) != NULL) return;
  }
  if (profile != NULL) {
    fprintf(stderr, "hakmem-run: no " LIBRARY " in %s/../lib/hakmem/%s; bazel run //:install_profiles installs all\n",
            self, profile);
    exit(EXIT_USAGE);
  }
  fprintf(stderr, "hakmem-run: no " LIBRARY " in %s/../lib; -l names one elsewhere\n", self);
  exit(EXIT_USAGE);
}

// Whether the name is in the list, which is separated by blanks or colons.
static bool lists(const char *list, const char *name) {
  const size_t length = strlen(name);
  while (*list != '\0') {
    list += strspn(list, ": ");
    const size_t next = strcspn(list, ": ");
    if (next == length && strncmp(list, name, length) == 0) return true;
    list += next;
  }
  return false;
}

// Puts the library before those that are already preloaded.
static void preload(const char *library) {
  const char *others = getenv("LD_PRELOAD");
  if (others == NULL || *others == '\0') {
    if (setenv("LD_PRELOAD", library, 1) != 0) fail(EXIT_NOT_EXECUTABLE, "", strerror(errno));
    return;
  }
  if (lists(others, library)) return;
  char *both = NULL;
  if (asprintf(&both, "%s:%s", library, others) < 0 || setenv("LD_PRELOAD", both, 1) != 0) {
    fail(EXIT_NOT_EXECUTABLE, "", strerror(errno));
  }
}

static bool is_preset(const char *word) {
  return strcmp(word, "balanced") == 0 || strcmp(word, "speed") == 0 || strcmp(word, "lean") == 0;
}

static bool is_profile(const char *word) {
  return strcmp(word, "fast") == 0 || strcmp(word, "standard") == 0 || strcmp(word, "observe") == 0 ||
         strcmp(word, "hardened") == 0;
}

static void check_preset(const char *preset) {
  if (is_preset(preset)) return;
  fprintf(stderr, "hakmem-run: -p \"%s\" is not accepted; accepted: balanced, speed, lean", preset);
  if (is_profile(preset)) fprintf(stderr, "; %s is a profile: --profile %s", preset, preset);
  fputc('\n', stderr);
  exit(EXIT_USAGE);
}

static void check_profile(const char *profile) {
  if (is_profile(profile)) return;
  fprintf(stderr, "hakmem-run: --profile \"%s\" is not accepted; accepted: fast, standard, observe, hardened", profile);
  if (is_preset(profile)) fprintf(stderr, "; %s is a preset: -p %s", profile, profile);
  fputc('\n', stderr);
  exit(EXIT_USAGE);
}

static bool is_assignment(const char *word) {
  const size_t name = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
  return name != 0 && word[name] == '=' && !(word[0] >= '0' && word[0] <= '9');
}

int main(int argc, char **argv) {
  char library[PATH_MAX] = "";
  const char *profile = NULL;
  bool anyway = false;
  enum { PROFILE = 256 };
  static const struct option options[] = {{"profile", required_argument, NULL, PROFILE}, {NULL, 0, NULL, 0}};
  // '+': options of PROGRAM are not options of this program.
  for (int option; (option = getopt_long(argc, argv, "+fp:l:hV", options, NULL)) != -1;) {
    switch (option) {
      case PROFILE:
        check_profile(optarg);
        profile = optarg;
        break;
      case 'f':
        anyway = true;
        break;
      case 'p':
        check_preset(optarg);
        if (setenv("HAKMEM_PROFILE", optarg, 1) != 0) fail(EXIT_NOT_EXECUTABLE, "", strerror(errno));
        break;
      case 'l':
        if (realpath(optarg, library) == NULL || access(library, R_OK) != 0) {
          fprintf(stderr, "hakmem-run: -l %s: %s\n", optarg, strerror(errno));
          return EXIT_USAGE;
        }
        break;
      case 'h':
        fputs(usage, stdout);
        return 0;
      case 'V':
        puts("hakmem-run " VERSION_STRING(HAK_VERSION_MAJOR, HAK_VERSION_MINOR, HAK_VERSION_PATCH));
        return 0;
      default:
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
  }
  char **words = argv + optind;
  for (; *words != NULL && is_assignment(*words); words++) {
    if (putenv(*words) != 0) fail(EXIT_NOT_EXECUTABLE, "", strerror(errno));
  }
  if (*words == NULL) {
    fputs(usage, stderr);
    return EXIT_USAGE;
  }
  if (profile != NULL && library[0] != '\0') fail(EXIT_USAGE, "-l and --profile both name a library", "");
  if (library[0] == '\0') find_library(library, profile);
  if (strpbrk(library, ": ") != NULL) {
    fail(EXIT_USAGE, "LD_PRELOAD cannot name a file with a blank or a colon in its path: ", library);
  }

  static struct judgement judgement;
  judge_program(words[0], getenv("PATH"), &judgement);
  switch (judgement.verdict) {
    case VERDICT_AFFECTED:
      break;
    case VERDICT_PARTLY:
    case VERDICT_UNAFFECTED:
      fprintf(stderr, "hakmem-run: %s; %s (%s)\n", judgement.text,
              judgement.verdict == VERDICT_PARTLY ? "hakmem would get the rest only" : "hakmem would not be used",
              anyway ? "running it all the same" : "-f runs it all the same");
      if (!anyway) return EXIT_USAGE;
      break;
    case VERDICT_INCOMPATIBLE:
      fail(EXIT_USAGE, judgement.text, "");
    case VERDICT_NOT_EXECUTABLE:
      fail(EXIT_NOT_EXECUTABLE, judgement.text, "");
    case VERDICT_MISSING:
      fail(EXIT_MISSING, judgement.text, "");
  }
  preload(library);
  execvp(words[0], words);
  const int error = errno;
  fprintf(stderr, "hakmem-run: %s: %s\n", words[0], strerror(error));
  return error == ENOENT ? EXIT_MISSING : EXIT_NOT_EXECUTABLE;
}
