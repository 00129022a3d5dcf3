// SPDX-License-Identifier: Apache-2.0
//
// usage: c_host PLUGIN...
//
// A program in C that loads plugins in C++ and runs them in turn, in its first thread and in another one. Each is
// loaded with RTLD_LOCAL, or RTLD_GLOBAL if it is written global:PLUGIN. For each it prints whether its calls of
// operator new reach a definition of its own. Exit status: 0, or the number of the plugin's step that failed. A plugin
// with a variable plugin_call finds in it a function of this program that calls one of the plugin.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PLUGINS = 8, TURNS = 2 };

struct plugin {
  const char *name;
  int (*run)(void);
};
static struct plugin plugins[MOST_PLUGINS];
static int count;

static int run_all(void) {
  for (int turn = 0; turn < TURNS; turn++) {
    for (int i = 0; i < count; i++) {
      const int failed = plugins[i].run();
      if (failed == 0) continue;
      printf("%s: step %d failed\n", plugins[i].name, failed);
      return failed;
    }
  }
  return 0;
}

static void *call(void *(*function)(void)) {
  // Volatile: this function stays on the stack until the other has returned.
  void *volatile result = function();
  return result;
}

static void *in_a_thread(void *status) {
  *(int *)status = run_all();
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

static int load(const char *path) {
  static const char global[] = "global:";
  const int is_global = strncmp(path, global, strlen(global)) == 0;
  if (is_global) path += strlen(global);
  void *library = dlopen(path, RTLD_NOW | (is_global ? RTLD_GLOBAL : RTLD_LOCAL));
  void *run = library != NULL ? dlsym(library, "plugin_run") : NULL;
  void *operator_new = run != NULL ? dlsym(library, "plugin_operator_new") : NULL;
  if (operator_new == NULL) {
    puts(dlerror());
    return 0;
  }
  void *const caller = dlsym(library, "plugin_call");
  if (caller != NULL) *(void *(**)(void *(*)(void)))caller = call;
  const char *const slash = strrchr(path, '/');
  struct plugin *const plugin = &plugins[count++];
  plugin->name = slash != NULL ? slash + 1 : path;
  memcpy(&plugin->run, &run, sizeof run);
  Dl_info here;
  Dl_info there;
  if (dladdr(run, &here) == 0 || dladdr(*(void **)operator_new, &there) == 0) return 0;
  printf("%s: %s operator new\n", plugin->name, here.dli_fbase == there.dli_fbase ? "own" : "shared");
  fflush(stdout);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > MOST_PLUGINS + 1) return 100;
  free(malloc(1));
  if (has_cxx_runtime()) {
    puts("a C++ runtime is there from the start: this shows nothing");
    return 101;
  }
  for (int i = 1; i < argc; i++) {
    if (!load(argv[i])) return 102;
  }
  const int here = run_all();
  int there = 103;
  pthread_t thread;
  if (pthread_create(&thread, NULL, in_a_thread, &there) != 0 || pthread_join(thread, NULL) != 0) return 104;
  return here != 0 ? here : there;
}
