// SPDX-License-Identifier: Apache-2.0
//
// usage: check_conf SETTINGS HEADER OUTPUT
//
// Checks the settings of a build, //configs:conf, by the code that reads them in its programs. If all are accepted, it
// copies HEADER, which holds them, to OUTPUT, so that nothing is compiled with wrong ones. Otherwise one line on stderr
// for each mistake. Exit status 0, 1 for mistakes, 2 for wrong use or a failure.
#include <stdio.h>

#include "allocator/gate/gate.h"

static bool copy_stream(FILE *in, FILE *out) {
  char buffer[4096];
  size_t n;
  do {
    n = fread(buffer, 1, sizeof buffer, in);
    if (fwrite(buffer, 1, n, out) != n) return false;
  } while (n == sizeof buffer);
  return ferror(in) == 0;
}

static bool copy(const char *from, const char *to) {
  FILE *in = fopen(from, "rb");
  if (in == NULL) return false;
  FILE *out = fopen(to, "wb");
  const bool copied = out != NULL && copy_stream(in, out);
  const bool closed = out != NULL && fclose(out) == 0;
  return fclose(in) == 0 && copied && closed;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fputs("usage: check_conf SETTINGS HEADER OUTPUT\n", stderr);
    return 2;
  }
  if (!hak_gate_check_build(argv[1])) return 1;
  if (copy(argv[2], argv[3])) return 0;
  perror("check_conf");
  return 2;
}
