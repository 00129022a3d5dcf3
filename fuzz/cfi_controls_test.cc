// SPDX-License-Identifier: Apache-2.0
//
// The engine of cfi_fuzzer on readers with planted bugs: it must notice each, and must find nothing in hakmem's.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "allocator/prof/test_cfi_image.h"
#include "fuzz/cfi_engine.h"
#include "fuzz/controls.h"

namespace hak_fuzz {
namespace {

// A good table, in which the seed has changed some bytes.
std::vector<uint8_t> ChangedTable(uint64_t seed) {
  hak_test::Random random(seed);
  hak_cfi_test::Parts parts;
  const uint8_t sp = HAK_CFI_RETURN == 6 ? 7 : 31;
  const uint8_t back = HAK_CFI_RETURN == 6 ? 16 : 30;
  parts.common = {0x0c, sp, 16, static_cast<uint8_t>(0x80 | back), 1};
  parts.program = {0x41, 0x0e, 32, 0x0a, 0x42, 0x16, 6, 2, 0x77, 8, 0x44, 0x0b, 0x48, 0x0e, 64};
  std::vector<uint8_t> input = {0, static_cast<uint8_t>(random.Below(12))};
  for (const uint8_t byte : hak_cfi_test::Build(parts)) input.push_back(byte);
  for (uint64_t changes = random.Below(4); changes > 0; --changes) {
    input[2 + random.Index(input.size() - 2)] = static_cast<uint8_t>(random.Next());
  }
  return input;
}

void ExpectCfi(const CfiCalls &calls, const char *what) {
  EXPECT_EQ(Find([&calls](const uint8_t *data, size_t size) { RunCfiInput(calls, data, size); }, ChangedTable, 20000),
            what);
}

TEST(CfiControl, NothingIsWrong) { ExpectCfi({}, ""); }

TEST(CfiControl, EntryOutsideTheTables) {
  CfiCalls calls;
  calls.entry = [](const hak_cfi_tables *tables, uintptr_t pc) -> const uint8_t * {
    const uint8_t *entry = hak_cfi_entry(tables, pc);
    return entry != nullptr ? tables->high - 8 : nullptr;
  };
  ExpectCfi(calls, "an entry outside the tables");
}

TEST(CfiControl, FrameAddressOfNoRegister) {
  CfiCalls calls;
  calls.rule_of = [](const hak_cfi_tables *tables, const uint8_t *entry, uintptr_t pc, hak_cfi_rule *rule) {
    const bool found = hak_cfi_rule_of(tables, entry, pc, rule);
    rule->frame_slot = HAK_CFI_OTHER;
    return found;
  };
  ExpectCfi(calls, "a frame address of no register");
}

TEST(CfiControl, ExpressionOutsideTheTables) {
  CfiCalls calls;
  calls.rule_of = [](const hak_cfi_tables *tables, const uint8_t *entry, uintptr_t pc, hak_cfi_rule *rule) {
    const bool found = hak_cfi_rule_of(tables, entry, pc, rule);
    rule->cells[0] = {.value = 1 << 20, .kind = HAK_CFI_EXPRESSION};
    return found;
  };
  ExpectCfi(calls, "an expression outside the tables");
}

TEST(CfiControl, CellOfNoRegister) {
  CfiCalls calls;
  calls.rule_of = [](const hak_cfi_tables *tables, const uint8_t *entry, uintptr_t pc, hak_cfi_rule *rule) {
    const bool found = hak_cfi_rule_of(tables, entry, pc, rule);
    rule->cells[0] = {.value = HAK_CFI_OTHER, .kind = HAK_CFI_REGISTER};
    return found;
  };
  ExpectCfi(calls, "a cell of no register");
}

// A step that does not look at the stack pointer that it finds.
template <intptr_t kOff>
enum hak_frame_step MovedStep(const hak_cfi_tables *tables, const hak_cfi_rule *rule, hak_stack_view *view,
                              hak_frame *frame) {
  const uintptr_t sp = frame->sp;
  const enum hak_frame_step step = hak_frame_step(tables, rule, view, frame);
  if (step == HAK_FRAME_CALLER) frame->sp = sp + static_cast<uintptr_t>(kOff);
  return step;
}

TEST(CfiControl, StackGoesDown) {
  CfiCalls calls;
  calls.step = MovedStep<0>;
  ExpectCfi(calls, "the stack goes down");
}

TEST(CfiControl, StackPointerBeyondTheStack) {
  CfiCalls calls;
  calls.step = MovedStep<64 * 1024 * 1024>;
  ExpectCfi(calls, "a stack pointer beyond the stack");
}

TEST(CfiControl, StackPointerIsNotAligned) {
  CfiCalls calls;
  calls.step = MovedStep<12>;
  ExpectCfi(calls, "a stack pointer that is not aligned");
}

TEST(CfiControl, FailedStepChangesTheFrame) {
  CfiCalls calls;
  calls.step = [](const hak_cfi_tables *tables, const hak_cfi_rule *rule, hak_stack_view *view, hak_frame *frame) {
    const enum hak_frame_step step = hak_frame_step(tables, rule, view, frame);
    if (step != HAK_FRAME_CALLER) frame->pc++;
    return step;
  };
  ExpectCfi(calls, "a step that fails changes the frame");
}

TEST(CfiControl, SignalFramesAreForgotten) {
  CfiCalls calls;
  calls.step = [](const hak_cfi_tables *tables, const hak_cfi_rule *rule, hak_stack_view *view, hak_frame *frame) {
    const enum hak_frame_step step = hak_frame_step(tables, rule, view, frame);
    if (step == HAK_FRAME_CALLER) frame->after_call = false;
    return step;
  };
  ExpectCfi(calls, "a frame after a call");
}

}  // namespace
}  // namespace hak_fuzz
