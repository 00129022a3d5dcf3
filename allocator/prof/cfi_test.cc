// SPDX-License-Identifier: Apache-2.0
//
// Rules read from tables made here, from damaged copies of the tables of this program, and steps by them.
#include "allocator/prof/cfi.h"

#include "allocator/os/bytes.h"
#include "allocator/os/unit_test.h"
#include "allocator/prof/cfi_frame.h"
#include "allocator/prof/modules.h"
#include "allocator/prof/test_cfi_image.h"

namespace {

using hak_cfi_test::Bytes;
using hak_cfi_test::ClosedIn;
using hak_cfi_test::Image;
using hak_cfi_test::Parts;

// DWARF's numbers of the stack pointer, of the frame pointer and of the return address.
#if defined(__x86_64__)
constexpr uint8_t kSp = 7;
constexpr uint8_t kFp = 6;
constexpr uint8_t kReturn = 16;
#else
constexpr uint8_t kSp = 31;
constexpr uint8_t kFp = 29;
constexpr uint8_t kReturn = 30;
#endif
constexpr uint8_t kAdvance = 0x40;
constexpr uint8_t kOffset = 0x80;
constexpr uint8_t kRestore = 0xc0;

// The frame address is 16 above the stack pointer, and the return address lies 8 below it.
const Bytes kCommon = {0x0c, kSp, 16, kOffset | kReturn, 1};

hak_cfi_rule RuleOf(const Bytes &program, uint64_t byte, uint8_t code_factor = 1) {
  Parts parts;
  parts.common = kCommon;
  parts.program = program;
  parts.code_factor = code_factor;
  const Image image(Build(parts));
  hak_cfi_rule rule = {};
  EXPECT_TRUE(image.Rule(byte, &rule));
  return rule;
}

bool HasRule(const Parts &parts, uint64_t byte) {
  const Image image(Build(parts));
  hak_cfi_rule rule;
  return image.Rule(byte, &rule);
}

void ExpectCell(const hak_cfi_cell &cell, hak_cfi_kind kind, int32_t value) {
  EXPECT_EQ(cell.kind, static_cast<uint32_t>(kind));
  EXPECT_EQ(cell.value, value);
}

TEST(Cfi, CommonPart) {
  const hak_cfi_rule rule = RuleOf({}, 0);
  EXPECT_EQ(rule.frame_kind, HAK_CFI_REGISTER);
  EXPECT_EQ(rule.frame_slot, HAK_CFI_SP);
  EXPECT_EQ(rule.frame_offset, 16);
  EXPECT_FALSE(rule.is_signal);
  ExpectCell(rule.cells[HAK_CFI_RETURN], HAK_CFI_OFFSET, -8);
  ExpectCell(rule.cells[HAK_CFI_FP], HAK_CFI_SAME, 0);
}

// The numbers of the registers that functions keep for their callers, by the ABI of each machine.
TEST(Cfi, RegistersByTheirNumbers) {
  std::vector<uint32_t> slots(64, HAK_CFI_OTHER);
#if defined(__x86_64__)
  slots[3] = HAK_CFI_RBX;
  slots[6] = HAK_CFI_FP;
  slots[7] = HAK_CFI_SP;
  slots[12] = HAK_CFI_R12;
  slots[13] = HAK_CFI_R13;
  slots[14] = HAK_CFI_R14;
  slots[15] = HAK_CFI_R15;
  slots[16] = HAK_CFI_RETURN;
#else
  for (uint32_t x = 19; x <= 28; x++) slots[x] = HAK_CFI_X19 + (x - 19);
  slots[29] = HAK_CFI_FP;
  slots[30] = HAK_CFI_RETURN;
  slots[31] = HAK_CFI_SP;
#endif
  for (uint64_t number = 0; number < slots.size(); number++) EXPECT_EQ(hak_cfi_slot(number), slots[number]) << number;
  EXPECT_EQ(hak_cfi_slot(UINT64_MAX), HAK_CFI_OTHER);
}

TEST(Cfi, RowsBeginWhereTheProgramSays) {
  const Bytes program = {kAdvance | 1, 0x0e, 32, kOffset | kFp, 2, 0x02, 100, 0x0d, kFp, 0x03, 0x90, 0, 0x0e, 64};
  EXPECT_EQ(RuleOf(program, 0).frame_offset, 16);
  ExpectCell(RuleOf(program, 0).cells[HAK_CFI_FP], HAK_CFI_SAME, 0);
  EXPECT_EQ(RuleOf(program, 1).frame_offset, 32);
  ExpectCell(RuleOf(program, 1).cells[HAK_CFI_FP], HAK_CFI_OFFSET, -16);
  EXPECT_EQ(RuleOf(program, 100).frame_slot, HAK_CFI_SP);
  EXPECT_EQ(RuleOf(program, 101).frame_slot, HAK_CFI_FP);
  EXPECT_EQ(RuleOf(program, 244).frame_offset, 32);
  EXPECT_EQ(RuleOf(program, 245).frame_offset, 64);
  EXPECT_EQ(RuleOf(program, 7, 4).frame_offset, 32) << "locations count in units";
  EXPECT_EQ(RuleOf(program, 3, 4).frame_offset, 16);
}

TEST(Cfi, StatesAreRememberedAndRestored) {
  const Bytes program = {0x0a,
                         0x0e,
                         48,
                         kOffset | kFp,
                         2,
                         kAdvance | 4,
                         0x0b,
                         kAdvance | 4,
                         kOffset | kReturn,
                         5,
                         kAdvance | 4,
                         kRestore | kReturn,
                         kAdvance | 4,
                         0x06,
                         kReturn};
  EXPECT_EQ(RuleOf(program, 3).frame_offset, 48);
  EXPECT_EQ(RuleOf(program, 4).frame_offset, 16);
  ExpectCell(RuleOf(program, 4).cells[HAK_CFI_FP], HAK_CFI_SAME, 0);
  ExpectCell(RuleOf(program, 8).cells[HAK_CFI_RETURN], HAK_CFI_OFFSET, -40);
  ExpectCell(RuleOf(program, 12).cells[HAK_CFI_RETURN], HAK_CFI_OFFSET, -8);
}

TEST(Cfi, EveryKindOfCell) {
  ExpectCell(RuleOf({0x05, kFp, 3}, 0).cells[HAK_CFI_FP], HAK_CFI_OFFSET, -24);
  ExpectCell(RuleOf({0x11, kFp, 0x7f}, 0).cells[HAK_CFI_FP], HAK_CFI_OFFSET, 8);
  ExpectCell(RuleOf({0x2f, kFp, 2}, 0).cells[HAK_CFI_FP], HAK_CFI_OFFSET, 16);
  ExpectCell(RuleOf({0x14, kFp, 1}, 0).cells[HAK_CFI_FP], HAK_CFI_VAL_OFFSET, -8);
  ExpectCell(RuleOf({0x15, kFp, 0x7e}, 0).cells[HAK_CFI_FP], HAK_CFI_VAL_OFFSET, 16);
  ExpectCell(RuleOf({0x07, kFp}, 0).cells[HAK_CFI_FP], HAK_CFI_UNDEFINED, 0);
  ExpectCell(RuleOf({0x07, kFp, 0x08, kFp}, 0).cells[HAK_CFI_FP], HAK_CFI_SAME, 0);
  ExpectCell(RuleOf({0x09, kFp, kSp}, 0).cells[HAK_CFI_FP], HAK_CFI_REGISTER, HAK_CFI_SP);
  ExpectCell(RuleOf({0x09, kFp, 1}, 0).cells[HAK_CFI_FP], HAK_CFI_UNDEFINED, HAK_CFI_OTHER);
  EXPECT_EQ(RuleOf({0x10, kFp, 2, 0x77, 0}, 0).cells[HAK_CFI_FP].kind, HAK_CFI_EXPRESSION);
  EXPECT_EQ(RuleOf({0x16, kFp, 2, 0x77, 0}, 0).cells[HAK_CFI_FP].kind, HAK_CFI_VAL_EXPRESSION);
  EXPECT_EQ(RuleOf({0x12, kFp, 0x7e}, 0).frame_offset, 16);
  EXPECT_EQ(RuleOf({0x13, 0x7d}, 0).frame_offset, 24);
  EXPECT_EQ(RuleOf({0x0f, 2, 0x77, 8}, 0).frame_kind, HAK_CFI_EXPRESSION);
  EXPECT_EQ(RuleOf({0x2e, 200, 1, 0x2d, 0, 0x0e, 40}, 0).frame_offset, 40) << "what does not matter is passed over";
}

TEST(Cfi, ThereIsNoRuleOutsideAFunction) {
  Parts parts;
  parts.common = kCommon;
  EXPECT_TRUE(HasRule(parts, 0));
  EXPECT_TRUE(HasRule(parts, hak_cfi_test::kFunctionBytes - 1));
  EXPECT_FALSE(HasRule(parts, hak_cfi_test::kFunctionBytes));
  EXPECT_FALSE(HasRule(parts, static_cast<uint64_t>(-1)));
}

TEST(Cfi, Versions) {
  Parts parts;
  parts.common = kCommon;
  for (const uint8_t version : Bytes{1, 3, 4}) {
    parts.version = version;
    EXPECT_TRUE(HasRule(parts, 0)) << int{version};
  }
  for (const uint8_t version : Bytes{0, 2, 5}) {
    parts.version = version;
    EXPECT_FALSE(HasRule(parts, 0)) << int{version};
  }
}

TEST(Cfi, Augmentations) {
  Parts parts;
  parts.common = kCommon;
  parts.letters = {'z', 'P', 'L', 'R', 'S', 0};
  parts.extra = {0x9b, 1, 2, 3, 4, 0x1b, 0x1b};
  const Image image(Build(parts));
  hak_cfi_rule rule;
  ASSERT_TRUE(image.Rule(0, &rule));
  EXPECT_TRUE(rule.is_signal);
  parts.letters = {'e', 'h', 0};
  EXPECT_FALSE(HasRule(parts, 0));
  parts.letters = {'z', 'R', 0};
  parts.extra = {0x9b};
  EXPECT_FALSE(HasRule(parts, 0)) << "an address that names where the address is";
}

TEST(Cfi, UnknownProgramsGiveNoRule) {
  Parts parts;
  for (const Bytes &program : {Bytes{0x17}, Bytes{0x3f}, Bytes{0x0b}, Bytes{0x0d, 1}, Bytes{0x0c, 200, 1, 8},
                               Bytes{0x0f, 0xff, 0x7f}, Bytes{0x0e, 0xff, 0xff, 0xff, 0xff, 0x7f}}) {
    parts.common = kCommon;
    parts.program = program;
    EXPECT_FALSE(HasRule(parts, 0)) << int{program[0]};
  }
  for (const Bytes &change : {Bytes{0x0d, kSp}, Bytes{0x0e, 16}, Bytes{0x13, 1}}) {
    parts.program = {0x0f, 2, 0x77, 8};
    parts.program.insert(parts.program.end(), change.begin(), change.end());
    EXPECT_FALSE(HasRule(parts, 0)) << "a part of an expression";
    parts.program = change;
    EXPECT_TRUE(HasRule(parts, 0)) << int{change[0]};
  }
  parts.program = Bytes(9, 0x0a);
  EXPECT_FALSE(HasRule(parts, 0)) << "too many states";
  parts.program = Bytes(8, 0x0a);
  EXPECT_TRUE(HasRule(parts, 0));
  parts = Parts();
  EXPECT_FALSE(HasRule(parts, 0)) << "no frame address";
  parts.common = {kRestore | kReturn, 0x0c, kSp, 16};
  EXPECT_FALSE(HasRule(parts, 0)) << "the common part has nothing to restore";
  parts.common = kCommon;
  parts.return_register = 0;
  EXPECT_FALSE(HasRule(parts, 0));
}

TEST(Cfi, DamagedIndexGivesNoEntry) {
  Parts parts;
  parts.common = kCommon;
  const Bytes good = Build(parts);
  const auto found = [](const Bytes &bytes) {
    const Image image(bytes);
    hak_cfi_rule rule;
    return image.Rule(0, &rule);
  };
  ASSERT_TRUE(found(good));
  for (const size_t at : {0u, 1u, 3u}) {
    Bytes bad = good;
    bad[at] = 0x42;
    EXPECT_FALSE(found(bad)) << at;
  }
  Bytes bad = good;
  bad[8] = 0;
  EXPECT_FALSE(found(bad)) << "no function";
  bad[11] = 0x7f;
  EXPECT_FALSE(found(bad)) << "more functions than there is room for";
  bad = good;
  bad[19] = 0x7f;
  EXPECT_FALSE(found(bad)) << "an entry outside the tables";
  bad = good;
  bad[19] = 0x80;
  EXPECT_FALSE(found(bad)) << "and on the other side";
  for (size_t size = 0; size < good.size(); size++) {
    Bytes cut = good;
    cut.resize(size);
    (void)found(cut);  // The next byte cannot be read.
  }
}

// ---- Steps --------------------------------------------------------------------------------------

// A stack of 64 words, each of which has its index + 1000.
class Words {
 public:
  Words() : memory_(Bytes(64 * 8)) {
    for (uint64_t i = 0; i < 64; i++) at(i) = 1000 + i;
    hak_stack_view_open(&view_, address(0), true);
    frame_.pc = 5;
    frame_.sp = address(0);
    frame_.after_call = true;
    for (auto &value : frame_.values) value = 77;
  }
  uintptr_t &at(uint64_t i) { return static_cast<uintptr_t *>(static_cast<void *>(memory_.low()))[i]; }
  uintptr_t address(uint64_t i) { return reinterpret_cast<uintptr_t>(&at(i)); }
  enum hak_frame_step Step(const Bytes &program) {
    Parts parts;
    parts.common = kCommon;
    parts.program = program;
    return Step(parts);
  }
  enum hak_frame_step Step(const Parts &parts) {
    const Image image(Build(parts));
    const hak_cfi_tables tables = image.tables();
    hak_cfi_rule rule;
    EXPECT_TRUE(image.Rule(0, &rule));
    return ::hak_frame_step(&tables, &rule, &view_, &frame_);
  }
  hak_frame &frame() { return frame_; }
  hak_stack_view &view() { return view_; }

 private:
  ClosedIn memory_;
  hak_stack_view view_;
  hak_frame frame_;
};

TEST(CfiFrame, PlainCall) {
  Words words;
  ASSERT_EQ(words.Step({0x0e, 32, kOffset | kFp, 2}), HAK_FRAME_CALLER);
  EXPECT_EQ(words.frame().pc, 1003u);
  EXPECT_EQ(words.frame().sp, words.address(4));
  EXPECT_EQ(words.frame().values[HAK_CFI_FP], 1002u);
  EXPECT_TRUE(words.frame().after_call);
}

TEST(CfiFrame, EndOfTheStack) {
  Words words;
  EXPECT_EQ(words.Step({0x07, kReturn}), HAK_FRAME_LAST);
  words.at(1) = 0;
  EXPECT_EQ(words.Step(Bytes()), HAK_FRAME_LAST);
  EXPECT_EQ(words.frame().pc, 5u) << "the frame stays";
}

TEST(CfiFrame, StackDoesNotGoBackOrBeyond) {
  Words words;
  EXPECT_EQ(words.Step({0x0e, 0, 0x16, kReturn, 1, 0x31}), HAK_FRAME_LOST) << "not above the frame";
  EXPECT_EQ(words.Step({0x13, 1}), HAK_FRAME_LOST) << "below it";
  EXPECT_EQ(words.Step({0x0e, 12, 0x16, kReturn, 1, 0x31}), HAK_FRAME_LOST) << "not aligned";
  EXPECT_EQ(words.Step({0x0e, 0xff, 0xff, 0x7f}), HAK_FRAME_LOST) << "beyond the stack";
  words.frame().after_call = false;
  EXPECT_EQ(words.Step({0x0e, 0, 0x16, kReturn, 1, 0x31}), HAK_FRAME_CALLER) << "a function without a frame";
}

TEST(CfiFrame, SignalFrameLeadsToAnotherStack) {
  Words words;
  Words other;
  words.at(10) = other.address(3);
  Parts parts;
  parts.letters = {'z', 'R', 'S', 0};
  // The interrupted stack pointer is in word 10, its pc in word 11.
  parts.common = {0x0f, 4, static_cast<uint8_t>(0x70 + kSp), 0xd0, 0, 0x06};
  parts.program = {0x10, kReturn, 3, static_cast<uint8_t>(0x70 + kSp), 0xd8, 0};
  if (kSp >= 32) GTEST_FAIL();
  ASSERT_EQ(words.Step(parts), HAK_FRAME_CALLER);
  EXPECT_EQ(words.frame().pc, 1011u);
  EXPECT_EQ(words.frame().sp, other.address(3));
  EXPECT_FALSE(words.frame().after_call) << "the pc is that of the next instruction";
}

// The value of an expression that begins with the frame address.
uint64_t Value(const Bytes &expression) {
  Words words;
  Bytes program = {0x16, kFp, static_cast<uint8_t>(expression.size())};
  program.insert(program.end(), expression.begin(), expression.end());
  EXPECT_EQ(words.Step(program), HAK_FRAME_CALLER);
  return words.frame().values[HAK_CFI_FP];
}

TEST(CfiFrame, Expressions) {
  EXPECT_EQ(Value({0x3f}), 15u);
  EXPECT_EQ(Value({0x4f}), 31u);
  EXPECT_EQ(Value({0x08, 200}), 200u);
  EXPECT_EQ(Value({0x09, 200}), static_cast<uint64_t>(-56));
  EXPECT_EQ(Value({0x0a, 0, 0x80}), 0x8000u);
  EXPECT_EQ(Value({0x0b, 0, 0x80}), static_cast<uint64_t>(-0x8000));
  EXPECT_EQ(Value({0x0c, 0, 0, 0, 0x80}), 0x80000000u);
  EXPECT_EQ(Value({0x0d, 0, 0, 0, 0x80}), static_cast<uint64_t>(-0x80000000ll));
  EXPECT_EQ(Value({0x0e, 1, 0, 0, 0, 0, 0, 0, 0x80}), 0x8000000000000001u);
  EXPECT_EQ(Value({0x10, 0x80, 1}), 128u);
  EXPECT_EQ(Value({0x11, 0x7f}), static_cast<uint64_t>(-1));
  EXPECT_EQ(Value({0x35, 0x33, 0x1c}), 2u) << "minus";
  EXPECT_EQ(Value({0x35, 0x33, 0x1a}), 1u) << "and";
  EXPECT_EQ(Value({0x35, 0x33, 0x21}), 7u) << "or";
  EXPECT_EQ(Value({0x35, 0x33, 0x22}), 8u) << "plus";
  EXPECT_EQ(Value({0x35, 0x33, 0x1e}), 15u) << "mul";
  EXPECT_EQ(Value({0x35, 0x33, 0x24}), 40u) << "shl";
  EXPECT_EQ(Value({0x35, 0x31, 0x25}), 2u) << "shr";
  EXPECT_EQ(Value({0x09, 0xf0, 0x32, 0x26}), static_cast<uint64_t>(-4)) << "shra";
  EXPECT_EQ(Value({0x35, 0x33, 0x27}), 6u) << "xor";
  EXPECT_EQ(Value({0x35, 0x23, 9}), 14u) << "plus_uconst";
  EXPECT_EQ(Value({0x31, 0x1f}), static_cast<uint64_t>(-1)) << "neg";
  EXPECT_EQ(Value({0x31, 0x20}), static_cast<uint64_t>(-2)) << "not";
  EXPECT_EQ(Value({0x35, 0x35, 0x2a}), 1u) << "ge";
  EXPECT_EQ(Value({0x35, 0x35, 0x2b}), 0u) << "gt";
  EXPECT_EQ(Value({0x35, 0x35, 0x2c}), 1u) << "le";
  EXPECT_EQ(Value({0x34, 0x35, 0x2d}), 1u) << "lt";
  EXPECT_EQ(Value({0x34, 0x35, 0x29}), 0u) << "eq";
  EXPECT_EQ(Value({0x34, 0x35, 0x2e}), 1u) << "ne";
  EXPECT_EQ(Value({0x34, 0x35, 0x13}), 4u) << "drop";
  EXPECT_EQ(Value({0x34, 0x35, 0x14}), 4u) << "over";
  EXPECT_EQ(Value({0x34, 0x35, 0x36, 0x15, 2}), 4u) << "pick";
  EXPECT_EQ(Value({0x34, 0x35, 0x16}), 4u) << "swap";
  EXPECT_EQ(Value({0x34, 0x35, 0x36, 0x17}), 5u) << "rot";
  EXPECT_EQ(Value({0x34, 0x12, 0x22}), 8u) << "dup";
  EXPECT_EQ(Value({0x34, 0x31, 0x28, 1, 0, 0x39}), 4u) << "bra";
  EXPECT_EQ(Value({0x34, 0x2f, 1, 0, 0x39}), 4u) << "skip";
  EXPECT_EQ(Value({0x23, 8, 0x06}), 1003u) << "the word above the frame address";
  EXPECT_EQ(Value({0x92, kFp, 1}), 78u) << "bregx";
  EXPECT_EQ(Value({0x34, 0x96}), 4u) << "nop";
}

// Without a value the register is not known; the step goes on.
TEST(CfiFrame, ExpressionsThatFailGiveNoValue) {
  EXPECT_EQ(Value({0x22}), 0u) << "one operand is missing";
  EXPECT_EQ(Value({0x70}), 0u) << "a register that is not followed";
  EXPECT_EQ(Value({0x50}), 0u) << "a register in place of a value";
  EXPECT_EQ(Value({0x90, 1}), 0u) << "a frame base";
  EXPECT_EQ(Value({0x35, 0x33, 0x1b}), 0u) << "a division";
  EXPECT_EQ(Value({0x2f, 0xfd, 0xff}), 0u) << "a loop";
  EXPECT_EQ(Value({0x2f, 0x7f, 0}), 0u) << "a jump out of it";
  EXPECT_EQ(Value({0x30, 0x06}), 0u) << "a place that is not in the stack";
  EXPECT_EQ(Value({0x0e, 1}), 0u) << "cut short";
  EXPECT_EQ(Value(Bytes(17, 0x30)), 0u) << "too many operands";
  EXPECT_EQ(Value({0x34, 0x15, 9}), 0u) << "pick of what is not there";
}

TEST(CfiFrame, ByTheFramePointer) {
  Words words;
  words.frame().values[HAK_CFI_FP] = words.address(6);
  ASSERT_EQ(hak_frame_step_by_pointer(&words.view(), &words.frame()), HAK_FRAME_CALLER);
  EXPECT_EQ(words.frame().pc, 1007u);
  EXPECT_EQ(words.frame().sp, words.address(8));
  EXPECT_EQ(words.frame().values[HAK_CFI_FP], 1006u);
  EXPECT_EQ(hak_frame_step_by_pointer(&words.view(), &words.frame()), HAK_FRAME_LOST) << "no address of the stack";
  words.frame().values[HAK_CFI_FP] = words.address(6);
  EXPECT_EQ(hak_frame_step_by_pointer(&words.view(), &words.frame()), HAK_FRAME_LOST) << "below the frame";
  words.at(10) = 0;
  words.frame().values[HAK_CFI_FP] = words.address(9);
  EXPECT_EQ(hak_frame_step_by_pointer(&words.view(), &words.frame()), HAK_FRAME_LAST);
}

// ---- Damaged tables -----------------------------------------------------------------------------

// Some of the tables of this program, so that every change of a byte is in something that a compiler wrote.
Bytes OwnTables(uintptr_t *first_pc) {
  hak_cfi_tables tables;
  const auto here = reinterpret_cast<uintptr_t>(&OwnTables);
  if (!hak_module_tables(here, &tables)) {
    hak_modules_use_list(true);
    hak_modules_refresh();
    EXPECT_TRUE(hak_module_tables(here, &tables));
  }
  *first_pc = here - reinterpret_cast<uintptr_t>(tables.low);
  // Not by a function that AddressSanitizer watches: variables with closed bytes between them lie beside the tables.
  Bytes all(static_cast<size_t>(tables.high - tables.low));
  hak_bytes_copy(all.data(), tables.low, all.size());
  return all;
}

TEST(Cfi, DamagedTablesAreReadNowhereElse) {
  uintptr_t function;
  const Bytes good = OwnTables(&function);
  hak_cfi_tables real;
  ASSERT_TRUE(hak_module_tables(reinterpret_cast<uintptr_t>(&OwnTables), &real));
  const ptrdiff_t index = real.index - real.low;
  const ClosedIn memory(good);
  const hak_cfi_tables tables = {.low = memory.low(), .high = memory.high(), .index = memory.low() + index};
  hak_unit::Random random(5);
  uint64_t rules = 0;
  uint64_t steps = 0;
  for (int i = 0; i < hak_unit::Operations(20000); i++) {
    const uintptr_t pc = reinterpret_cast<uintptr_t>(memory.low()) + function + random.Below(100000) - 50000;
    const uint8_t *entry = hak_cfi_entry(&tables, pc);
    if (entry == nullptr) continue;
    // The entry, and the common part that it names, are where a reader looks.
    uint8_t *const spot = memory.low() + (entry - memory.low());
    std::vector<std::pair<uint8_t *, uint8_t>> before;
    for (uint32_t changes = random.Below(5); changes > 0; changes--) {
      uint8_t *const at = random.OneIn(8) ? memory.low() + random.Below(good.size()) : spot + random.Below(40);
      if (at >= memory.high()) continue;
      before.emplace_back(at, *at);
      *at = static_cast<uint8_t>(random.OneIn(2) ? random.Next() : *at ^ (1u << random.Below(8)));
    }
    hak_cfi_rule rule;
    const uint8_t *found = hak_cfi_entry(&tables, pc);
    if (found != nullptr && hak_cfi_rule_of(&tables, found, pc, &rule)) {
      rules++;
      Words words;
      for (uint64_t w = 0; w < 64; w++) words.at(w) = words.address(random.Below(64));
      for (auto &value : words.frame().values) value = words.address(random.Below(64));
      const uintptr_t sp = words.frame().sp;
      if (hak_frame_step(&tables, &rule, &words.view(), &words.frame()) == HAK_FRAME_CALLER && !rule.is_signal) {
        steps++;
        ASSERT_GT(words.frame().sp, sp);
        ASSERT_EQ(words.frame().sp % 8, 0u);
      }
    }
    for (auto one = before.rbegin(); one != before.rend(); ++one) *one->first = one->second;
  }
  EXPECT_GT(rules, 0u);
  EXPECT_GT(steps, 0u);
}

}  // namespace
