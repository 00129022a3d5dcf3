// SPDX-License-Identifier: Apache-2.0
//
// A plugin with the allocator in it is closed by dlclose while threads that have used it still live; and it is opened
// and closed many times.
//
//   closing_test PLUGIN
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static void *plugin;

static int work_in_plugin(void) {
  int (*work)(void);
  *(void **)&work = dlsym(plugin, "plugin_work");
  return work != NULL ? work() : 2;
}

static void *user(void *result) {
  *(int *)result = work_in_plugin();
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);  // The plugin is closed meanwhile.
  return NULL;
}

static long address_space_mib(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld", &pages) != 1) exit(3);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  alarm(60);
  long early = 0;
  for (int round = 0; round < 20; round++) {
    plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 4;
    }
    int result = 1;
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, user, &result) != 0) return 5;
    pthread_barrier_wait(&barrier);
    if (work_in_plugin() != 0) return 6;
    dlclose(plugin);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    if (result != 0) return 7;
    const pid_t child = fork();
    if (child == 0) exit(0);
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) return 8;
    if (round == 1) early = address_space_mib();
  }
  const long more = address_space_mib() - early;
  if (more > 200) {
    fprintf(stderr, "closing the plugin left %ld MiB of addresses\n", more);
    return 9;
  }
  puts("ok");
  return 0;
}
