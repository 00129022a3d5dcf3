// SPDX-License-Identifier: Apache-2.0
//
// catches PROGRAM REPORT: passes if PROGRAM succeeds without arguments, and with one argument fails and prints a line
// that contains REPORT. Only a program built with the sanitizer does both.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

// Runs `command`, copies its output, and returns its exit status and whether a line contained `report`.
static int run(const char *command, const char *report, bool *reported) {
  *reported = false;
  FILE *output = popen(command, "r");
  if (output == NULL) {
    perror(command);
    exit(2);
  }
  char line[4096];
  while (fgets(line, sizeof line, output) != NULL) {
    fputs(line, stdout);
    if (strstr(line, report) != NULL) *reported = true;
  }
  return pclose(output);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: catches PROGRAM REPORT\n");
    return 2;
  }
  char command[4096];
  bool reported;

  snprintf(command, sizeof command, "'%s' 2>&1", argv[1]);
  int status = run(command, argv[2], &reported);
  if (status != 0 || reported) {
    printf("FAILED: the program without its bug should run well (wait status %d)\n", status);
    return 1;
  }

  snprintf(command, sizeof command, "'%s' bug 2>&1", argv[1]);
  status = run(command, argv[2], &reported);
  if (status == 0 || !reported) {
    printf("FAILED: the bug was not caught: no \"%s\". Is this the sanitizer's --config?\n", argv[2]);
    return 1;
  }
  return 0;
}
