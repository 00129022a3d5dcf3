// SPDX-License-Identifier: Apache-2.0
//
// The lines after the last line. That of hak_fatal comes just before the thread sends itself SIGABRT, so a handler of
// this signal writes them: it can see the stack, which the floor of the allocator cannot read, and no function pointer
// is kept in memory that misuse may have overwritten.
#include "allocator/api/full_report.h"

#include "allocator/os/auxv.h"
#include "allocator/os/bytes.h"
#include "allocator/os/readable.h"
#include "allocator/os/signal_action.h"
#include "allocator/policy/config.h"
#include "allocator/prof/modules.h"
#include "allocator/prof/sampler.h"
#include "allocator/prof/unwind.h"

#define FRAMES_MAX 64u
#define BYTES_IN_LINE 16u
#define LINES_OF_BYTES 4u

// The time that is left for all lines, and whether stderr took the one before.
struct writer {
  struct timespec left;
  bool works;
};

static void end_line(struct writer *writer, struct hak_line *line) {
  writer->works = writer->works && hak_line_write_within(line, &writer->left);
}

static void begin_line(struct hak_line *line, const char *text) {
  hak_line_begin(line);
  hak_line_text(line, "hakmem: ");
  hak_line_text(line, text);
}

static void write_text(struct writer *writer, const char *text) {
  struct hak_line line;
  begin_line(&line, text);
  end_line(writer, &line);
}

// ---- Stacks -------------------------------------------------------------------------------------

// "<pc> <file>+<offset>", as addr2line -e <file> <offset> reads it.
static void write_frame(struct writer *writer, uintptr_t pc) {
  struct hak_line line;
  const char *path = NULL;
  uintptr_t bias = 0;
  begin_line(&line, "  ");
  hak_line_hex(&line, pc);
  if (hak_module_file(pc, &path, &bias)) {
    const char *const program = (const char *)hak_auxv(HAK_AUXV_PROGRAM);
    hak_line_text(&line, " ");
    hak_line_text(&line, path[0] != '\0' || program == NULL ? path : program);
    hak_line_text(&line, "+");
    hak_line_hex(&line, pc - bias);
  }
  end_line(writer, &line);
}

// `interrupted`: the first address is that of an instruction. The others are return addresses, and the call stands
// before them.
static void write_stack(struct writer *writer, void *const *frames, uint32_t count, bool interrupted) {
  for (uint32_t i = 0; i < count && writer->works; i++) {
    write_frame(writer, (uintptr_t)frames[i] - (i != 0 || !interrupted));
  }
}

static void write_interrupted(struct writer *writer, const void *context) {
  void *frames[FRAMES_MAX];
  const uint32_t count = hak_unwind_interrupted(frames, FRAMES_MAX, context);
  write_text(writer, "the call:");
  write_stack(writer, frames, count, true);
}

static void write_allocation(struct writer *writer, const char *block) {
  struct hak_live_sample sample;
  struct hak_stack_totals totals;
  void *const *frames;
  uint32_t count;
  if (!hak_sampler_has_live() || !hak_sampler_find(block, &sample)) return;
  if (!hak_sampler_stack(sample.stack, &frames, &count, &totals)) return;
  struct hak_line line;
  begin_line(&line, "the block, ");
  hak_line_number(&line, (int64_t)sample.size);
  hak_line_text(&line, " bytes, was allocated by thread ");
  hak_line_number(&line, (int64_t)sample.thread);
  hak_line_text(&line, ":");
  end_line(writer, &line);
  write_stack(writer, frames, count < FRAMES_MAX ? count : FRAMES_MAX, false);
}

// ---- Bytes --------------------------------------------------------------------------------------

static bool can_read(const char *from) {
  return hak_os_is_readable(from) && hak_os_is_readable(from + BYTES_IN_LINE - sizeof(uint64_t));
}

static void write_bytes(struct writer *writer, const char *from) {
  struct hak_line line;
  begin_line(&line, "  ");
  hak_line_hex(&line, (uint64_t)(uintptr_t)from);
  hak_line_text(&line, ":");
  for (uint32_t i = 0; i < BYTES_IN_LINE; i++) {
    const unsigned char byte = (unsigned char)from[i];
    const char text[] = {' ', "0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15], '\0'};
    hak_line_text(&line, text);
  }
  end_line(writer, &line);
}

// The bytes that were to stay as they are: those around the block's end, those in front of it, or the freed block's
// own.
static void write_region(struct writer *writer, const struct hak_report_subject *subject) {
  const bool behind = hak_text_is(subject->what, "overflow");
  const bool before = hak_text_is(subject->what, "underflow");
  if (!behind && !before && !hak_text_is(subject->what, "write after free")) return;
  const size_t lines = behind && subject->bytes == 0 ? 0 : LINES_OF_BYTES;
  const size_t window = lines * BYTES_IN_LINE;
  const uintptr_t end = (uintptr_t)subject->block + (behind ? hak_round_up(subject->bytes, BYTES_IN_LINE) : 0);
  const uintptr_t start = behind ? end - window / 2 : before ? end - window : end;
  if (lines != 0) write_text(writer, behind ? "the bytes at its end:" : before ? "the bytes before it:" : "its bytes:");
  for (size_t i = 0; i < lines && writer->works; i++) {
    const char *const from = (const char *)start + i * BYTES_IN_LINE;
    if (can_read(from)) write_bytes(writer, from);
  }
}

// ---- Interface ----------------------------------------------------------------------------------

HAK_COLD void hak_full_report(const void *context, const struct hak_report_subject *subject) {
  if (!HAK_PROF || HAK_SETTING(report) != HAK_REPORT_FULL) return;
  struct writer writer = {.left = {.tv_sec = 1}, .works = true};
  hak_report_set_ending();
  write_interrupted(&writer, context);
  write_region(&writer, subject);
  write_allocation(&writer, subject->block);
}

static void handle(int signal, siginfo_t *info, void *context) {
  if (hak_report_is_ending()) {
    const struct hak_report_subject subject = hak_report_subject();
    hak_full_report(context, &subject);
    return;  // hak_fatal continues, and ends the process.
  }
  // The program's own abort().
  hak_signal_set_default(signal);
  hak_signal_send_again(info);
}

HAK_COLD void hak_full_report_start(void) {
  if (HAK_PROF && HAK_SETTING(report) == HAK_REPORT_FULL) hak_signal_handle(SIGABRT, handle);
}
