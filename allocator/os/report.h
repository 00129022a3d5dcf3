// SPDX-License-Identifier: Apache-2.0
//
// Lines for the operator, on stderr or where the program wants them. Nothing here allocates, takes a lock or changes
// errno, so it can be called from anywhere, also under a lock or with a corrupted heap.
#ifndef HAKMEM_OS_REPORT_H_
#define HAKMEM_OS_REPORT_H_

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// A line under construction. Text beyond its capacity is cut off.
struct hak_line {
  size_t length;
  char text[512];
};
// Not by an initialiser, for which compilers may call memset.
HAK_INLINE void hak_line_begin(struct hak_line *line) { line->length = 0; }
void hak_line_text(struct hak_line *line, const char *text);
// Text from outside, which must not be able to fake a line or move the cursor: what cannot be printed becomes '?'.
void hak_line_outside_text(struct hak_line *line, const char *text);
void hak_line_hex(struct hak_line *line, uint64_t value);
void hak_line_number(struct hak_line *line, int64_t value);
// The program's function that gets each line instead of stderr; NULL: none. Returns the one before.
typedef void (*hak_line_output)(const char *text, size_t length);
hak_line_output hak_line_set_output(hak_line_output output);
// Writes the line and a newline to stderr in one write, or gives them to the program's function.
void hak_line_write(struct hak_line *line);
// The same for a process that goes on, and that did not ask for a line at this moment: the line is lost rather than
// that SIGPIPE ends the process because the reader of stderr is gone, or that a reader that does not read stops it.
HAK_COLD void hak_line_offer(struct hak_line *line);
// Writes the line, and ends the process with the exit status 1: at once, so that no exit handler runs.
HAK_COLD __attribute__((noreturn)) void hak_line_exit(struct hak_line *line);

// Adds which process and thread this is, and writes the line, within a second, as the last one before the process ends:
// the signals of a stderr without a reader are blocked from then on.
HAK_COLD void hak_line_write_last(struct hak_line *line);

// Writes a line that follows it, if stderr takes it before *left has passed, which becomes less. False: it does not.
HAK_COLD bool hak_line_write_within(struct hak_line *line, struct timespec *left);

// Whether the calling thread has noticed misuse and ends the process. From then on it waits for no lock: it may hold
// some itself, and the program's signal handler may allocate.
bool hak_report_is_ending(void);
void hak_report_set_ending(void);

// The block that the last line is about, and its size, 0 if not known. For the thread that has written it.
struct hak_report_subject {
  const char *what;
  const char *block;
  size_t bytes;
};
struct hak_report_subject hak_report_subject(void);

// Names the program in the last line: the last part of `path`, which may be NULL. At the start, while there is one
// thread.
void hak_report_name_program(const char *path);
// Appends " in <program>[<pid>]", and ", thread <tid>" in another than the first thread.
void hak_line_process(struct hak_line *line);

// Adds "hakmem: <what>: 0x<block>", and unless `bytes` is 0 " (<bytes>-byte block)".
HAK_COLD void hak_line_misuse(struct hak_line *line, const char *what, const void *block, size_t bytes);

// Writes "hakmem: <what>: 0x<pointer> in <program>[<pid>]", followed by ", thread <tid>" in another than the first
// thread, and aborts the process.
HAK_COLD __attribute__((noreturn)) void hak_fatal(const char *what, const void *pointer);
// The same with " (<bytes>-byte block)" behind the pointer: what a block of its class takes, or if it has guard pages
// of its own what was asked for. 0: not known.
HAK_COLD __attribute__((noreturn)) void hak_fatal_block(const char *what, const void *block, size_t bytes);

HAK_C_END

#endif  // HAKMEM_OS_REPORT_H_
