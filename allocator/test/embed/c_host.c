// SPDX-License-Identifier: Apache-2.0
//
// usage: c_host PLUGIN
//
// A program in C that loads a plugin in C++ with RTLD_LOCAL and runs it, in its first thread and in another one. Exit
// status: 0, or the number of the plugin's step that failed.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int (*run)(void);

static void *in_a_thread(void *status) {
  *(int *)status = run();
  return NULL;
}

static int has_cxx_runtime(void) {
  char line[4096];
  int found = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, "libstdc++") != NULL;
  if (maps != NULL) fclose(maps);
  return found;
}

int main(int argc, char **argv) {
  if (argc != 2) return 100;
  free(malloc(1));
  if (has_cxx_runtime()) {
    puts("a C++ runtime is there from the start: this shows nothing");
    return 101;
  }
  void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  void *symbol = plugin != NULL ? dlsym(plugin, "plugin_run") : NULL;
  if (symbol == NULL) {
    puts(dlerror());
    return 102;
  }
  memcpy(&run, &symbol, sizeof run);
  const int here = run();
  int there = 103;
  pthread_t thread;
  if (pthread_create(&thread, NULL, in_a_thread, &there) != 0 || pthread_join(thread, NULL) != 0) return 104;
  if (here != 0 || there != 0) printf("step %d failed, and %d in a thread\n", here, there);
  return here != 0 ? here : there;
}
