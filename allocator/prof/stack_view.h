// SPDX-License-Identifier: Apache-2.0
//
// The part of a stack that may be read: from a frame upwards to the first page that cannot be read, and never beyond
// where the thread's stack ends, if that is known. It grows page by page, and the kernel is asked for each page, so
// that stacks of any kind can be read: those of signal handlers and of coroutines too.
#ifndef HAKMEM_PROF_STACK_VIEW_H_
#define HAKMEM_PROF_STACK_VIEW_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_stack_view {
  uintptr_t low;    // the frame where the view begins
  uintptr_t high;   // everything from there to here can be read
  uintptr_t limit;  // nothing is read from here on
};

// A view from `sp` upwards. The page with `sp` must be readable if `known` is true; otherwise the kernel is asked.
// False: it is not readable.
bool hak_stack_view_open(struct hak_stack_view *view, uintptr_t sp, bool known);
// Reads a word. False: it is not in the view, or not aligned, and *out is unchanged.
bool hak_stack_read(struct hak_stack_view *view, uintptr_t at, uintptr_t *out);

HAK_C_END

#endif  // HAKMEM_PROF_STACK_VIEW_H_
