// SPDX-License-Identifier: Apache-2.0
#include "fuzz/cfi_engine.h"

#include <string.h>

#include "allocator/prof/stack_view.h"
#include "allocator/prof/test_cfi_image.h"
#include "fuzz/fuzz_target.h"

namespace hak_fuzz {
namespace {

// A stack whose words point into it, so that a rule finds a place for whatever it says. What is beyond it belongs to
// nobody.
class Stack {
 public:
  Stack() : memory_(hak_cfi_test::Bytes(kWords * sizeof(uintptr_t))) {
    for (size_t i = 0; i < kWords; i++) {
      const uintptr_t word = At((i * 29 + 7) % kWords);
      memcpy(memory_.low() + i * sizeof word, &word, sizeof word);
    }
  }
  uintptr_t At(size_t i) const { return reinterpret_cast<uintptr_t>(memory_.low()) + i * sizeof(uintptr_t); }

 private:
  static constexpr size_t kWords = 64;
  hak_cfi_test::ClosedIn memory_;
};

void Step(const CfiCalls &calls, const hak_cfi_tables &tables, const hak_cfi_rule &rule, bool after_call) {
  static const Stack stack;
  hak_stack_view view;
  Check(hak_stack_view_open(&view, stack.At(0), true), "the stack cannot be read");
  hak_frame frame = {};
  frame.pc = 4;
  frame.sp = stack.At(0);
  frame.after_call = after_call;
  for (size_t slot = 0; slot < HAK_CFI_SLOTS; slot++) frame.values[slot] = stack.At(slot * 5 % 64);
  const hak_frame before = frame;
  if (calls.step(&tables, &rule, &view, &frame) != HAK_FRAME_CALLER) {
    Check(memcmp(&frame, &before, sizeof frame) == 0, "a step that fails changes the frame");
    return;
  }
  Check(frame.sp % sizeof(uintptr_t) == 0, "a stack pointer that is not aligned");
  Check(frame.after_call == !rule.is_signal, "a frame after a call");
  if (rule.is_signal) return;
  Check(frame.sp <= view.limit, "a stack pointer beyond the stack");
  Check(frame.sp > before.sp || (frame.sp == before.sp && !after_call), "the stack goes down");
}

void CheckRule(const hak_cfi_tables &tables, const hak_cfi_rule &rule) {
  const auto in_tables = [&tables](int32_t place) {
    return place >= tables.low - tables.index && place < tables.high - tables.index;
  };
  if (rule.frame_kind == HAK_CFI_EXPRESSION) {
    Check(in_tables(rule.frame_offset), "an expression outside the tables");
  } else {
    Check(rule.frame_kind == HAK_CFI_REGISTER && rule.frame_slot <= HAK_CFI_SP, "a frame address of no register");
  }
  for (const hak_cfi_cell &cell : rule.cells) {
    Check(cell.kind <= HAK_CFI_VAL_EXPRESSION, "a cell of no kind");
    if (cell.kind >= HAK_CFI_EXPRESSION) Check(in_tables(cell.value), "an expression outside the tables");
    if (cell.kind == HAK_CFI_REGISTER) Check(static_cast<uint32_t>(cell.value) <= HAK_CFI_SP, "a cell of no register");
  }
}

}  // namespace

void RunCfiInput(const CfiCalls &calls, const uint8_t *data, size_t size) {
  if (size < 3) return;
  const hak_cfi_test::ClosedIn memory(hak_cfi_test::Bytes(data + 2, data + size));
  const size_t bytes = size - 2;
  const hak_cfi_tables tables = {.low = memory.low(), .high = memory.high(), .index = memory.low() + data[0] % bytes};
  for (uint32_t i = 0; i < 8; i++) {
    // The function of test_cfi_image.h is found by some of these, and any other one that is near.
    const uintptr_t pc = reinterpret_cast<uintptr_t>(tables.index) + hak_cfi_test::kFunction + data[1] * i;
    const uint8_t *entry = calls.entry(&tables, pc);
    if (entry == nullptr) continue;
    Check(entry >= tables.low && entry + HAK_CFI_ENTRY_LEAST <= tables.high, "an entry outside the tables");
    hak_cfi_rule rule;
    if (!calls.rule_of(&tables, entry, pc, &rule)) continue;
    CheckRule(tables, rule);
    Step(calls, tables, rule, true);
    Step(calls, tables, rule, false);
  }
}

}  // namespace hak_fuzz
