// SPDX-License-Identifier: Apache-2.0
//
// Steps from a frame to its caller's, and evaluates DWARF expressions (DWARF 5, 2.5) for that.
#include "allocator/prof/cfi_frame.h"

// ---- Expressions --------------------------------------------------------------------------------

#define OPERANDS_MAX 16u
// Jumps back could make an expression run for ever.
#define OPERATIONS_MAX 256u

struct evaluation {
  struct hak_cfi_bytes bytes;
  const uint8_t *start;
  struct hak_stack_view *view;
  const struct hak_frame *frame;
  uint32_t count;
  bool bad;
  uint64_t operands[OPERANDS_MAX];
};

static void push(struct evaluation *now, uint64_t value) {
  if (now->count == OPERANDS_MAX) {
    now->bad = true;
  } else {
    now->operands[now->count++] = value;
  }
}
static uint64_t pop(struct evaluation *now) {
  if (now->count == 0) {
    now->bad = true;
    return 0;
  }
  return now->operands[--now->count];
}
// The operand that `depth` others lie on.
static uint64_t peek(struct evaluation *now, uint64_t depth) {
  if (depth >= now->count) {
    now->bad = true;
    return 0;
  }
  return now->operands[now->count - 1 - depth];
}

// On x86-64 the linker's stubs compute with the pc, which DWARF counts as a register.
static void push_register(struct evaluation *now, uint64_t number, int64_t offset) {
  const uint32_t slot = hak_cfi_slot(number);
  if (slot == HAK_CFI_OTHER) {
    now->bad = true;
    return;
  }
  const uintptr_t value = slot == HAK_CFI_SP ? now->frame->sp : now->frame->values[slot];
  push(now, value + (uint64_t)offset);
}

static void dereference(struct evaluation *now) {
  uintptr_t value = 0;
  if (!hak_stack_read(now->view, pop(now), &value)) now->bad = true;
  push(now, value);
}

static void jump(struct evaluation *now, int16_t by) {
  const int64_t to = (now->bytes.at - now->start) + by;
  if (to < 0 || to > now->bytes.end - now->start) {
    now->bad = true;
  } else {
    now->bytes.at = now->start + to;
  }
}

// By DWARF's numbers.
enum {
  OP_ADDR = 0x03,
  OP_DEREF = 0x06,
  OP_CONST1U = 0x08,
  OP_CONST1S = 0x09,
  OP_CONST2U = 0x0a,
  OP_CONST2S = 0x0b,
  OP_CONST4U = 0x0c,
  OP_CONST4S = 0x0d,
  OP_CONST8U = 0x0e,
  OP_CONST8S = 0x0f,
  OP_CONSTU = 0x10,
  OP_CONSTS = 0x11,
  OP_DUP = 0x12,
  OP_DROP = 0x13,
  OP_OVER = 0x14,
  OP_PICK = 0x15,
  OP_SWAP = 0x16,
  OP_ROT = 0x17,
  OP_ABS = 0x19,
  OP_AND = 0x1a,
  OP_DIV = 0x1b,
  OP_MINUS = 0x1c,
  OP_MOD = 0x1d,
  OP_MUL = 0x1e,
  OP_NEG = 0x1f,
  OP_NOT = 0x20,
  OP_OR = 0x21,
  OP_PLUS = 0x22,
  OP_PLUS_UCONST = 0x23,
  OP_SHL = 0x24,
  OP_SHR = 0x25,
  OP_SHRA = 0x26,
  OP_XOR = 0x27,
  OP_BRA = 0x28,
  OP_EQ = 0x29,
  OP_GE = 0x2a,
  OP_GT = 0x2b,
  OP_LE = 0x2c,
  OP_LT = 0x2d,
  OP_NE = 0x2e,
  OP_SKIP = 0x2f,
  OP_LIT0 = 0x30,
  OP_BREG0 = 0x70,
  OP_BREGX = 0x92,
  OP_NOP = 0x96,
};
#define OP_REGISTERS 32u

static void do_constant(struct evaluation *now, uint32_t operation) {
  struct hak_cfi_bytes *const bytes = &now->bytes;
  switch (operation) {
    case OP_CONST1U:
      push(now, hak_cfi_number(bytes, 1));
      break;
    case OP_CONST1S:
      push(now, (uint64_t)(int64_t)(int8_t)hak_cfi_number(bytes, 1));
      break;
    case OP_CONST2U:
      push(now, hak_cfi_number(bytes, 2));
      break;
    case OP_CONST2S:
      push(now, (uint64_t)(int64_t)(int16_t)hak_cfi_number(bytes, 2));
      break;
    case OP_CONST4U:
      push(now, hak_cfi_number(bytes, 4));
      break;
    case OP_CONST4S:
      push(now, (uint64_t)(int64_t)(int32_t)hak_cfi_number(bytes, 4));
      break;
    case OP_CONSTU:
      push(now, hak_cfi_uleb(bytes));
      break;
    case OP_CONSTS:
      push(now, (uint64_t)hak_cfi_sleb(bytes));
      break;
    default:
      push(now, hak_cfi_number(bytes, 8));
      break;
  }
}

static void do_two(struct evaluation *now, uint32_t operation) {
  const uint64_t b = pop(now);
  const uint64_t a = pop(now);
  switch (operation) {
    case OP_AND:
      push(now, a & b);
      break;
    case OP_MINUS:
      push(now, a - b);
      break;
    case OP_MUL:
      push(now, a * b);
      break;
    case OP_OR:
      push(now, a | b);
      break;
    case OP_PLUS:
      push(now, a + b);
      break;
    case OP_SHL:
      push(now, b < 64 ? a << b : 0);
      break;
    case OP_SHR:
      push(now, b < 64 ? a >> b : 0);
      break;
    case OP_SHRA:
      push(now, (uint64_t)((int64_t)a >> (b < 64 ? b : 63)));
      break;
    case OP_XOR:
      push(now, a ^ b);
      break;
    case OP_EQ:
      push(now, a == b);
      break;
    case OP_GE:
      push(now, (int64_t)a >= (int64_t)b);
      break;
    case OP_GT:
      push(now, (int64_t)a > (int64_t)b);
      break;
    case OP_LE:
      push(now, (int64_t)a <= (int64_t)b);
      break;
    case OP_LT:
      push(now, (int64_t)a < (int64_t)b);
      break;
    case OP_NE:
      push(now, a != b);
      break;
    default:
      now->bad = true;  // A division: no compiler writes one here.
      break;
  }
}

static void do_stack(struct evaluation *now, uint32_t operation) {
  switch (operation) {
    case OP_DUP:
      push(now, peek(now, 0));
      break;
    case OP_DROP:
      (void)pop(now);
      break;
    case OP_OVER:
      push(now, peek(now, 1));
      break;
    case OP_PICK:
      push(now, peek(now, hak_cfi_number(&now->bytes, 1)));
      break;
    case OP_SWAP: {
      const uint64_t top = pop(now);
      const uint64_t below = pop(now);
      push(now, top);
      push(now, below);
      break;
    }
    default: {
      const uint64_t top = pop(now);
      const uint64_t second = pop(now);
      const uint64_t third = pop(now);
      push(now, top);
      push(now, third);
      push(now, second);
      break;
    }
  }
}

static void do_operation(struct evaluation *now, uint32_t operation) {
  if (operation >= OP_LIT0 && operation < OP_LIT0 + OP_REGISTERS) {
    push(now, operation - OP_LIT0);
    return;
  }
  if (operation >= OP_BREG0 && operation < OP_BREG0 + OP_REGISTERS) {
    push_register(now, operation - OP_BREG0, hak_cfi_sleb(&now->bytes));
    return;
  }
  if (operation >= OP_CONST1U && operation <= OP_CONSTS) {
    do_constant(now, operation);
    return;
  }
  if (operation >= OP_DUP && operation <= OP_ROT) {
    do_stack(now, operation);
    return;
  }
  switch (operation) {
    case OP_ADDR:
      push(now, hak_cfi_number(&now->bytes, 8));
      break;
    case OP_DEREF:
      dereference(now);
      break;
    case OP_NEG:
      push(now, 0 - pop(now));
      break;
    case OP_NOT:
      push(now, ~pop(now));
      break;
    case OP_PLUS_UCONST:
      push(now, pop(now) + hak_cfi_uleb(&now->bytes));
      break;
    case OP_SKIP:
      jump(now, (int16_t)hak_cfi_number(&now->bytes, 2));
      break;
    case OP_BRA: {
      const int16_t by = (int16_t)hak_cfi_number(&now->bytes, 2);
      if (pop(now) != 0) jump(now, by);
      break;
    }
    case OP_BREGX: {
      const uint64_t number = hak_cfi_uleb(&now->bytes);
      push_register(now, number, hak_cfi_sleb(&now->bytes));
      break;
    }
    case OP_NOP:
      break;
    default:
      do_two(now, operation);
      break;
  }
}

// Evaluates the expression at `place` of the tables. `frame_address`: on the stack at the start, or NULL.
static bool evaluate(const struct hak_cfi_tables *tables, int32_t place, struct hak_stack_view *view,
                     const struct hak_frame *frame, const uintptr_t *frame_address, uintptr_t *out) {
  struct hak_cfi_bytes bytes = {.at = tables->index + place, .end = tables->high};
  if (place < tables->low - tables->index || place >= tables->high - tables->index) return false;
  const uint64_t size = hak_cfi_uleb(&bytes);
  if (bytes.bad || size > (uint64_t)(bytes.end - bytes.at)) return false;
  bytes.end = bytes.at + size;
  struct evaluation now = {.bytes = bytes, .start = bytes.at, .view = view, .frame = frame};
  if (frame_address != NULL) push(&now, *frame_address);
  for (uint32_t left = OPERATIONS_MAX; now.bytes.at < now.bytes.end; left--) {
    if (left == 0 || now.bad || now.bytes.bad) return false;
    do_operation(&now, *now.bytes.at++);
  }
  const uint64_t result = pop(&now);
  if (now.bad || now.bytes.bad) return false;
  *out = result;
  return true;
}

// ---- Steps --------------------------------------------------------------------------------------

// Removes the signature of a return address (aarch64, pointer authentication).
static uintptr_t plain_address(uintptr_t address) {
#if defined(__aarch64__)
  // XPACLRI, which does nothing on processors without signatures.
  register uintptr_t x30 __asm__("x30") = address;
  __asm__("hint #7" : "+r"(x30));
  return x30;
#else
  return address;
#endif
}

static uintptr_t value_of(const struct hak_frame *frame, uint32_t slot) {
  return slot == HAK_CFI_SP ? frame->sp : frame->values[slot];
}

static bool frame_address_of(const struct hak_cfi_tables *tables, const struct hak_cfi_rule *rule,
                             struct hak_stack_view *view, const struct hak_frame *frame, uintptr_t *out) {
  if (rule->frame_kind == HAK_CFI_EXPRESSION) {
    return evaluate(tables, rule->frame_offset, view, frame, NULL, out);
  }
  *out = value_of(frame, rule->frame_slot) + (uintptr_t)(intptr_t)rule->frame_offset;
  return true;
}

// The caller's value of a register. False: it is not known.
static bool callers_value(const struct hak_cfi_tables *tables, const struct hak_cfi_cell *cell, uint32_t slot,
                          struct hak_stack_view *view, const struct hak_frame *frame, uintptr_t address,
                          uintptr_t *out) {
  uintptr_t place = address + (uintptr_t)(intptr_t)cell->value;
  switch (cell->kind) {
    case HAK_CFI_SAME:
      *out = frame->values[slot];
      return true;
    case HAK_CFI_OFFSET:
      return hak_stack_read(view, place, out);
    case HAK_CFI_VAL_OFFSET:
      *out = place;
      return true;
    case HAK_CFI_REGISTER:
      *out = value_of(frame, (uint32_t)cell->value);
      return true;
    case HAK_CFI_EXPRESSION:
      return evaluate(tables, cell->value, view, frame, &address, &place) && hak_stack_read(view, place, out);
    case HAK_CFI_VAL_EXPRESSION:
      return evaluate(tables, cell->value, view, frame, &address, out);
    default:
      return false;
  }
}

// Whether the stack can go on at `sp`: above the frame, or, where a signal handler ends, on any readable stack.
static bool goes_on(struct hak_stack_view *view, const struct hak_frame *frame, uintptr_t sp, bool is_signal) {
  if (sp % sizeof(uintptr_t) != 0) return false;
  if (sp > frame->sp && sp <= view->limit) return true;
  // A function of aarch64 that calls none may have nothing on the stack.
  if (sp == frame->sp && !frame->after_call) return true;
  return is_signal && hak_stack_view_open(view, sp, false);
}

enum hak_frame_step hak_frame_step(const struct hak_cfi_tables *tables, const struct hak_cfi_rule *rule,
                                   struct hak_stack_view *view, struct hak_frame *frame) {
  const struct hak_cfi_cell *const back = &rule->cells[HAK_CFI_RETURN];
  if (back->kind == HAK_CFI_UNDEFINED) return HAK_FRAME_LAST;
  struct hak_frame caller = {.after_call = !rule->is_signal};
  uintptr_t address;
  if (!frame_address_of(tables, rule, view, frame, &address)) return HAK_FRAME_LOST;
  for (uint32_t slot = 0; slot < HAK_CFI_SLOTS; slot++) {
    const bool known = callers_value(tables, &rule->cells[slot], slot, view, frame, address, &caller.values[slot]);
    // The value of another register may never be needed.
    if (!known && slot == HAK_CFI_RETURN) return HAK_FRAME_LOST;
  }
  caller.pc = plain_address(caller.values[HAK_CFI_RETURN]);
  caller.sp = address;
  if (caller.pc == 0) return HAK_FRAME_LAST;
  if (caller.pc == frame->pc && caller.sp == frame->sp) return HAK_FRAME_LOST;
  if (!goes_on(view, frame, caller.sp, rule->is_signal)) return HAK_FRAME_LOST;
  *frame = caller;
  return HAK_FRAME_CALLER;
}

// The frame pointer points to the caller's, and the return address is the word above it, on both processors.
enum hak_frame_step hak_frame_step_by_pointer(struct hak_stack_view *view, struct hak_frame *frame) {
  const uintptr_t at = frame->values[HAK_CFI_FP];
  uintptr_t pointer;
  uintptr_t back;
  if (at < frame->sp || !hak_stack_read(view, at, &pointer) || !hak_stack_read(view, at + sizeof(uintptr_t), &back)) {
    return HAK_FRAME_LOST;
  }
  back = plain_address(back);
  if (back == 0) return HAK_FRAME_LAST;
  frame->pc = back;
  frame->sp = at + 2 * sizeof(uintptr_t);
  frame->values[HAK_CFI_FP] = pointer;
  frame->values[HAK_CFI_RETURN] = back;
  frame->after_call = true;
  return HAK_FRAME_CALLER;
}
