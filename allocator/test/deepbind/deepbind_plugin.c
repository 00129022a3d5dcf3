// SPDX-License-Identifier: Apache-2.0
//
// A plugin that hands blocks to its host and the C library, and takes theirs. INNER is a library that it loads itself.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN void *plugin_make(size_t size);
SHOWN void plugin_free(void *block);
SHOWN void *plugin_malloc(void);
SHOWN int plugin_use_libc(void);
SHOWN void *plugin_open(const char *name, int flags);

void *plugin_make(size_t size) { return calloc(1, size); }

void plugin_free(void *block) { free(block); }

// The address to which the plugin's calls of malloc are bound.
void *plugin_malloc(void) { return (void *)malloc; }

// 0, or the number of the call of the C library that failed. Each hands over a block that it has allocated.
int plugin_use_libc(void) {
  char *copy = strdup("a copy");
  if (copy == NULL) return 1;
  free(copy);
  char *line = NULL;
  size_t room = 0;
  FILE *file = fopen("/proc/self/maps", "re");
  if (file == NULL) return 2;
  const ssize_t length = getline(&line, &room, file);
  free(line);
  if (fclose(file) != 0 || length <= 0) return 3;
  char *text = NULL;
  if (asprintf(&text, "%d", 42) != 2) return 4;
  char *longer = realloc(text, 100000);
  if (longer == NULL) return 5;
  free(longer);
  char *path = realpath("/", NULL);
  if (path == NULL) return 6;
  free(path);
  return 0;
}

void *plugin_open(const char *name, int flags) {
  // A jump to dlopen would make the host its caller.
  void *volatile opened = dlopen(name, flags);
  return opened;
}
