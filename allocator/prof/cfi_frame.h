// SPDX-License-Identifier: Apache-2.0
//
// Applies rules of call frame information (cfi.h) to the registers of a frame: the registers of its caller.
#ifndef HAKMEM_PROF_CFI_FRAME_H_
#define HAKMEM_PROF_CFI_FRAME_H_

#include "allocator/os/base.h"
#include "allocator/prof/cfi.h"
#include "allocator/prof/stack_view.h"

HAK_C_BEGIN

struct hak_frame {
  uintptr_t pc;
  uintptr_t sp;
  uintptr_t values[HAK_CFI_SLOTS];  // HAK_CFI_RETURN: on x86-64 the pc, on aarch64 x30
  bool after_call;                  // the pc is a return address: the call is before it
};

enum hak_frame_step {
  HAK_FRAME_CALLER,  // *frame is the caller's
  HAK_FRAME_LAST,    // the frame has no caller
  HAK_FRAME_LOST,    // the caller is not known
};
// `index`: what expressions are counted from, in `tables`. After HAK_FRAME_LAST and HAK_FRAME_LOST *frame is unchanged.
enum hak_frame_step hak_frame_step(const struct hak_cfi_tables *tables, const struct hak_cfi_rule *rule,
                                   struct hak_stack_view *view, struct hak_frame *frame);

// The same for code without a rule: by the frame pointer, if it points to a frame above the stack pointer.
enum hak_frame_step hak_frame_step_by_pointer(struct hak_stack_view *view, struct hak_frame *frame);

HAK_C_END

#endif  // HAKMEM_PROF_CFI_FRAME_H_
