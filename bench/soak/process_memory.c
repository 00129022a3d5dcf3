// SPDX-License-Identifier: Apache-2.0
//
// The memory of this process from the kernel, read without allocating any.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bench/soak/soak.h"

static char buffer[65536];

static int open_proc(const char *path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) soak_fail("%s: %s", path, strerror(errno));
  return fd;
}

// Reads a short file as a string into `buffer`.
static void read_text(const char *path) {
  const int fd = open_proc(path);
  size_t length = 0;
  for (;;) {
    const ssize_t n = read(fd, buffer + length, sizeof buffer - 1 - length);
    if (n < 0) soak_fail("%s: %s", path, strerror(errno));
    if (n == 0) break;
    length += (size_t)n;
  }
  close(fd);
  buffer[length] = '\0';
}

// The number after `field`, which begins a line.
static uint64_t field_kib(const char *field) {
  const size_t length = strlen(field);
  for (const char *at = buffer; (at = strstr(at, field)) != NULL; at += length) {
    if (at == buffer || at[-1] == '\n') return strtoull(at + length, NULL, 10);
  }
  return 0;
}

static uint64_t count_lines(const char *path) {
  const int fd = open_proc(path);
  uint64_t lines = 0;
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) soak_fail("%s: %s", path, strerror(errno));
    if (n == 0) break;
    for (ssize_t i = 0; i < n; i++) lines += buffer[i] == '\n';
  }
  close(fd);
  return lines;
}

void process_memory_init(void) { memset(buffer, 0, sizeof buffer); }

struct process_memory process_memory_read(void) {
  struct process_memory m;
  // Exact, unlike VmRSS of status, which the kernel counts in batches.
  read_text("/proc/self/smaps_rollup");
  m.rss_kib = field_kib("Rss:");
  m.private_dirty_kib = field_kib("Private_Dirty:");
  m.anon_huge_kib = field_kib("AnonHugePages:");
  read_text("/proc/self/status");
  m.mapped_kib = field_kib("VmSize:");
  m.committed_kib = field_kib("VmData:");
  m.vmas = count_lines("/proc/self/maps");
  return m;
}
