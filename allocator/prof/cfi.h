// SPDX-License-Identifier: Apache-2.0
//
// How to step from a frame of the stack to its caller's, by the tables that compilers write for exceptions: call frame
// information as in DWARF 5, 6.4, in the form of the sections .eh_frame and .eh_frame_hdr (Linux Standard Base 5.0,
// 10.6 and 10.6.2). Of these the linker writes the latter, a sorted index of the former.
//
// The tables are data of any loaded file, so they may be damaged: nothing outside the given range is read, all work is
// bounded, and a rule may be wrong but never makes its user read outside the stack.
#ifndef HAKMEM_PROF_CFI_H_
#define HAKMEM_PROF_CFI_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The registers that functions preserve for their callers, and the return address. Others are not followed. The stack
// pointer has no slot: it is what the rule for the frame address says.
#if defined(__x86_64__)
enum { HAK_CFI_RBX, HAK_CFI_FP, HAK_CFI_R12, HAK_CFI_R13, HAK_CFI_R14, HAK_CFI_R15, HAK_CFI_RETURN, HAK_CFI_SLOTS };
#elif defined(__aarch64__)
// x19 to x28, the frame pointer x29, and x30 with the return address.
enum { HAK_CFI_X19, HAK_CFI_FP = 10, HAK_CFI_RETURN = 11, HAK_CFI_SLOTS };
#else
#error "hakmem is for x86-64 and aarch64"
#endif
#define HAK_CFI_SP HAK_CFI_SLOTS  // stands for the stack pointer
#define HAK_CFI_OTHER 255u        // a register that is not followed

enum hak_cfi_kind {
  HAK_CFI_SAME,        // the caller's value is in the register
  HAK_CFI_UNDEFINED,   // unknown; for the return address: there is no caller
  HAK_CFI_OFFSET,      // stored at the frame address + value
  HAK_CFI_VAL_OFFSET,  // the frame address + value
  HAK_CFI_REGISTER,    // in the register with the slot `value`
  HAK_CFI_EXPRESSION,  // stored where the expression at `value` says
  HAK_CFI_VAL_EXPRESSION,
};
// An expression is given by where its length stands, counted from the index.
struct hak_cfi_cell {
  int32_t value;
  uint32_t kind;
};

struct hak_cfi_rule {
  // The frame address: HAK_CFI_REGISTER with the slot and offset below, or HAK_CFI_EXPRESSION with the value in
  // `offset`.
  uint16_t frame_kind;
  uint8_t frame_slot;
  bool is_signal;  // the frame is that of a signal handler's return: the pc is not after a call
  int32_t frame_offset;
  struct hak_cfi_cell cells[HAK_CFI_SLOTS];
};

// A part of memory with tables. Everything in it can be read.
struct hak_cfi_tables {
  const uint8_t *low;
  const uint8_t *high;
  const uint8_t *index;  // .eh_frame_hdr, between the two
};

// The entry of the function that contains `pc`, or that comes last before it; NULL: there is none. It lies in the
// tables, with at least HAK_CFI_ENTRY_LEAST bytes.
#define HAK_CFI_ENTRY_LEAST 16u
const uint8_t *hak_cfi_entry(const struct hak_cfi_tables *tables, uintptr_t pc);
// The rule for `pc` by that entry. False: the function does not contain `pc`, or the tables say something that this
// reader does not know.
bool hak_cfi_rule_of(const struct hak_cfi_tables *tables, const uint8_t *entry, uintptr_t pc,
                     struct hak_cfi_rule *rule);

// The slot of a register by DWARF's number for it.
uint32_t hak_cfi_slot(uint64_t number);

// ---- Reading tables -----------------------------------------------------------------------------

// What is left of some bytes. A read beyond the end gives 0 and sets `bad`.
struct hak_cfi_bytes {
  const uint8_t *at;
  const uint8_t *end;
  bool bad;
};
// The next `size` (1, 2, 4 or 8) bytes as a number, and numbers of variable length.
uint64_t hak_cfi_number(struct hak_cfi_bytes *bytes, size_t size);
uint64_t hak_cfi_uleb(struct hak_cfi_bytes *bytes);
int64_t hak_cfi_sleb(struct hak_cfi_bytes *bytes);

HAK_C_END

#endif  // HAKMEM_PROF_CFI_H_
