// SPDX-License-Identifier: Apache-2.0
//
// Reads words of a stack, and asks the kernel first.
#include "allocator/prof/stack_view.h"

#include "allocator/os/auxv.h"
#include "allocator/os/os.h"
#include "allocator/os/readable.h"

// No more than this is read of one stack.
#define BYTES_MAX ((uintptr_t)16 * 1024 * 1024)

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#define NO_MSAN __attribute__((no_sanitize("memory")))
#endif
#endif
#ifndef NO_MSAN
#define NO_MSAN
#endif
// Saved registers lie between variables that a sanitizer may have closed, and other threads may write to those.
#define FOREIGN __attribute__((no_sanitize("address", "thread"))) NO_MSAN

static uintptr_t thread_pointer(void) {
#if defined(__x86_64__)
  uintptr_t pointer;
  __asm__("movq %%fs:0, %0" : "=r"(pointer));
  return pointer;
#else
  uintptr_t pointer;
  __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
  return pointer;
#endif
}

// C libraries put the thread's own record at the upper end of its stack. The first thread's stack ends with what the
// kernel passed to the program.
static uintptr_t end_of_stack(uintptr_t sp) {
  const uintptr_t thread = thread_pointer();
  const uintptr_t program = hak_auxv(HAK_AUXV_PROGRAM);
  uintptr_t end = sp + BYTES_MAX;
  if (end < sp) end = UINTPTR_MAX;
  if (thread > sp && thread < end) end = thread;
  if (program > sp && program < end) end = program;
  return end & ~(sizeof(uintptr_t) - 1);
}

bool hak_stack_view_open(struct hak_stack_view *view, uintptr_t sp, bool known) {
  const uintptr_t page = hak_os_page_size();
  const uintptr_t start = sp & ~(page - 1);
  if (start > UINTPTR_MAX - page || (!known && !hak_os_is_readable((const void *)start))) return false;
  *view = (struct hak_stack_view){.low = sp, .high = start + page, .limit = end_of_stack(sp)};
  return true;
}

static bool grow(struct hak_stack_view *view, uintptr_t to) {
  while (view->high < to) {
    if (!hak_os_is_readable((const void *)view->high)) {
      view->limit = view->high;
      return false;
    }
    view->high += hak_os_page_size();
  }
  return true;
}

FOREIGN bool hak_stack_read(struct hak_stack_view *view, uintptr_t at, uintptr_t *out) {
  if (at % sizeof(uintptr_t) != 0 || at < view->low || view->limit < sizeof(uintptr_t) ||
      at > view->limit - sizeof(uintptr_t) || !grow(view, at + sizeof(uintptr_t))) {
    return false;
  }
  *out = *(const volatile uintptr_t *)at;
  return true;
}
