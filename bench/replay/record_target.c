// SPDX-License-Identifier: Apache-2.0
//
// A program whose calls are known, for replay_test.py: a thread allocates what another one frees, blocks are resized,
// cleared and aligned, and a child process makes calls that are not recorded.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 300 };

static void *blocks[COUNT];

static void fail(const char *what) {
  fprintf(stderr, "record_target: %s\n", what);
  exit(1);
}

static void *there(void *p) {
  if (!p) fail("no memory");
  return p;
}

static void *producer(void *unused) {
  (void)unused;
  for (int i = 0; i < COUNT; i++) blocks[i] = there(malloc(1000 + (size_t)i));
  return NULL;
}

int main(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, producer, NULL) != 0) fail("no thread");
  pthread_join(thread, NULL);
  for (int i = 0; i < COUNT; i++) {
    // Each is resized once, then freed.
    blocks[i] = there(realloc(blocks[i], 5000 + (size_t)i));
    free(blocks[i]);
  }
  free(there(calloc(7, 11)));
  free(there(memalign(256, 777)));
  void *aligned = NULL;
  if (posix_memalign(&aligned, 4096, 778) != 0 || posix_memalign(&aligned, 3, 8) == 0) fail("posix_memalign");
  free(aligned);
  free(there(realloc(NULL, 779)));
  (void)there(malloc(123457));  // is live at the end
  const pid_t child = fork();
  if (child == 0) {
    free(there(malloc(98765)));
    _exit(0);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fail("the child");
  return 0;
}
