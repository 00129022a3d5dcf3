// SPDX-License-Identifier: Apache-2.0
//
// Words to the operator on stderr. Nothing here allocates, locks or touches errno, so it can be called from anywhere,
// inside a lock or with a broken heap.
#ifndef HAKMEM_OS_REPORT_H_
#define HAKMEM_OS_REPORT_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// A line built in place, cut at its capacity.
struct hak_line {
  size_t length;
  char text[512];
};
void hak_line_text(struct hak_line *line, const char *text);
void hak_line_hex(struct hak_line *line, uint64_t value);
void hak_line_number(struct hak_line *line, int64_t value);
// Writes the line and a newline to stderr in one write.
void hak_line_write(struct hak_line *line);

// Whether the calling thread found a fault and ends the process. From then on it waits for nobody: it holds locks
// perhaps, and the program's handler of the last signal may allocate.
bool hak_report_is_ending(void);
void hak_report_set_ending(void);

// Writes "hakmem: <what>: 0x<pointer>" and aborts the process.
HAK_COLD __attribute__((noreturn)) void hak_fatal(const char *what, const void *pointer);

HAK_C_END

#endif  // HAKMEM_OS_REPORT_H_
