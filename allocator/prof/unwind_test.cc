// SPDX-License-Identifier: Apache-2.0
//
// The stacks of this program, whose functions have no frame pointers, against those that the C++ runtime's unwinder
// finds; and stacks that are in no good state.
#include "allocator/prof/unwind.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>
#include <unwind.h>

#include <utility>

#include "allocator/os/unit_test.h"
#include "allocator/prof/modules.h"

namespace {

constexpr uint32_t kRoom = 200;

struct Stack {
  void *frames[kRoom];
  uint32_t count = 0;
};

_Unwind_Reason_Code Note(_Unwind_Context *context, void *to) {
  Stack *stack = static_cast<Stack *>(to);
  if (stack->count == kRoom) return _URC_END_OF_STACK;
  const uintptr_t pc = _Unwind_GetIP(context);
  if (pc == 0) return _URC_END_OF_STACK;
  stack->frames[stack->count++] = reinterpret_cast<void *>(pc);
  return _URC_NO_REASON;
}

// Both stacks of the caller, from the caller's caller on.
__attribute__((noinline)) void Compare(Stack *ours, Stack *theirs) {
  const void *const from = __builtin_return_address(0);
  ours->count = hak_unwind(ours->frames, kRoom, from);
  Stack all;
  _Unwind_Backtrace(Note, &all);
  for (uint32_t i = 0; i < all.count; i++) {
    if (theirs->count == 0 && all.frames[i] != from) continue;
    theirs->frames[theirs->count++] = all.frames[i];
  }
}

void ExpectSame() {
  Stack ours;
  Stack theirs;
  Compare(&ours, &theirs);
  ASSERT_GT(theirs.count, 0u);
  ASSERT_EQ(ours.count, theirs.count);
  for (uint32_t i = 0; i < ours.count; i++) EXPECT_EQ(ours.frames[i], theirs.frames[i]) << i;
}

// A function of each kind calls one of the next, with frames of several sizes.
thread_local volatile int never = 0;
char no_code;
void Touch(void *memory) { *static_cast<volatile char *>(memory) = 1; }

void Small(int depth);
__attribute__((noinline)) void Dynamic(int depth) {
  void *memory = alloca(static_cast<size_t>(depth & 63) * 40 + 16);
  Touch(memory);
  Small(depth - 1);
  Touch(memory);
}
__attribute__((noinline)) void Large(int depth) {
  char memory[3000];
  Touch(memory);
  Dynamic(depth - 1);
  Touch(memory);
}
__attribute__((noinline)) void Aligned(int depth) {
  alignas(128) char memory[256];
  Touch(memory);
  Large(depth - 1);
  Touch(memory);
}
__attribute__((noinline)) void Throws(int depth) {
  try {
    Aligned(depth - 1);
    if (never != 0) throw depth;
  } catch (int) {
    never = never + 1;
  }
}
void Small(int depth) {
  if (depth <= 0) {
    ExpectSame();
  } else {
    Throws(depth - 1);
  }
  never = 0;
}

TEST(Unwind, FindsWhatTheRuntimeFinds) {
  for (int depth = 0; depth < 60; depth += 7) Small(depth);
}

// Frames of many sizes: the rules of some of these functions have the same place.
template <int N>
__attribute__((noinline)) void Framed() {
  char room[16 * N + 8];
  Touch(room);
  ExpectSame();
  Touch(room);
}
template <int... N>
void CallAll(std::integer_sequence<int, N...>) {
  (Framed<N>(), ...);
}

TEST(Unwind, RulesOfManyFunctionsAreTheirOwn) { CallAll(std::make_integer_sequence<int, 250>()); }

void *InThread(void *) {
  Small(30);
  return nullptr;
}

TEST(Unwind, InThreads) {
  pthread_t threads[4];
  for (pthread_t &thread : threads) ASSERT_EQ(pthread_create(&thread, nullptr, InThread, nullptr), 0);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

void Handle(int) { Small(6); }

__attribute__((noinline)) void RaiseHere() {
  raise(SIGUSR1);
  never = 0;
}

void CatchOn(bool other_stack) {
  struct sigaction action = {};
  action.sa_handler = Handle;
  action.sa_flags = other_stack ? SA_ONSTACK : 0;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  RaiseHere();
  signal(SIGUSR1, SIG_DFL);
}

TEST(Unwind, AcrossASignalHandler) { CatchOn(false); }

TEST(Unwind, AcrossASignalHandlerOnAnotherStack) {
  static char memory[256 * 1024];
  stack_t stack = {};
  stack.ss_sp = memory;
  stack.ss_size = sizeof memory;
  ASSERT_EQ(sigaltstack(&stack, nullptr), 0);
  CatchOn(true);
  stack.ss_flags = SS_DISABLE;
  sigaltstack(&stack, nullptr);
}

TEST(Unwind, ListOfModulesFindsTheSame) {
  hak_modules_use_list(true);
  hak_modules_refresh();
  Small(20);
  hak_modules_use_list(false);
}

__attribute__((noinline)) uint32_t Room(void **out, uint32_t room) { return hak_unwind(out, room, nullptr); }

TEST(Unwind, StopsWhereTheRoomEnds) {
  void *out[5] = {nullptr, nullptr, nullptr, nullptr, &no_code};
  EXPECT_EQ(Room(out, 0), 0u);
  EXPECT_EQ(out[0], nullptr);
  EXPECT_EQ(Room(out, 4), 4u);
  EXPECT_EQ(out[4], &no_code);
}

TEST(Unwind, AnUnknownFirstFrameIsTheOnlyOne) {
  void *out[5] = {};
  EXPECT_EQ(hak_unwind(out, 5, &no_code), 1u);
  EXPECT_EQ(out[0], &no_code);
}

__attribute__((noinline)) void Walk(void **out) { Room(out, 100); }

// Two rules of a stack may want the same place, so that one of them is read again each time.
TEST(Unwind, KnownRulesAreNotReadAgain) {
  void *out[100];
  Walk(out);
  for (int i = 0; i < 8; i++) Walk(out);
  const struct hak_unwind_counts before = hak_unwind_counts();
  for (int i = 0; i < 8; i++) Walk(out);
  const struct hak_unwind_counts after = hak_unwind_counts();
  EXPECT_GT(after.found - before.found, 8u);
  EXPECT_LT(after.read - before.read, (after.found - before.found) / 2);
}

// ---- Stacks in no good state --------------------------------------------------------------------

ucontext_t here;
ucontext_t there;
Stack on_other;

void RunOnOther() {
  on_other.count = Room(on_other.frames, kRoom);
  swapcontext(&there, &here);
}

// The stack ends at a page that cannot be read.
TEST(Unwind, OnACoroutinesStack) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t size = 32 * page;
  char *memory = static_cast<char *>(mmap(nullptr, size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(mprotect(memory, size, PROT_READ | PROT_WRITE), 0);
  ASSERT_EQ(getcontext(&there), 0);
  there.uc_stack.ss_sp = memory;
  there.uc_stack.ss_size = size;
  there.uc_link = nullptr;
  makecontext(&there, RunOnOther, 0);
  ASSERT_EQ(swapcontext(&here, &there), 0);
  EXPECT_GE(on_other.count, 1u);
  munmap(memory, size + page);
}

// Code without tables: with a frame pointer, and with a frame pointer that has a random value.
class Generated {
 public:
  explicit Generated(bool frame) {
    memory_ = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#if defined(__x86_64__)
    // push %rbp; mov %rsp, %rbp (or mov %rsi, %rbp); call *%rdi; pop %rbp; ret
    const unsigned char code[] = {0x55, 0x48, 0x89, static_cast<unsigned char>(frame ? 0xe5 : 0xf5),
                                  0xff, 0xd7, 0x5d, 0xc3};
#else
    // stp x29, x30, [sp, #-16]!; mov x29, sp (or x1); blr x0; ldp x29, x30, [sp], #16; ret
    const uint32_t code[] = {0xa9bf7bfd, frame ? 0x910003fd : 0xaa0103fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
#endif
    memcpy(memory_, code, sizeof code);
    mprotect(memory_, 4096, PROT_READ | PROT_EXEC);
    __builtin___clear_cache(static_cast<char *>(memory_), static_cast<char *>(memory_) + sizeof code);
  }
  ~Generated() { munmap(memory_, 4096); }
  Generated(const Generated &) = delete;
  Generated &operator=(const Generated &) = delete;
#ifdef __clang__
  // UndefinedBehaviorSanitizer looks for what it has put in front of the function.
  __attribute__((no_sanitize("function")))
#endif
  void
  Call(void (*function)(), uintptr_t second) {
    reinterpret_cast<void (*)(void (*)(), uintptr_t)>(memory_)(function, second);
  }
  // Which frame of the stack is the code's; the stack's size: none.
  uint32_t Place(const Stack &stack) const {
    uint32_t at = 0;
    while (at < stack.count &&
           (stack.frames[at] < memory_ || stack.frames[at] >= static_cast<char *>(memory_) + 4096)) {
      at++;
    }
    return at;
  }

 private:
  void *memory_;
};

Stack generated;
void WalkGenerated() { generated.count = Room(generated.frames, kRoom); }

TEST(Unwind, FramePointersOfCodeWithoutTables) {
  Generated code(true);
  code.Call(WalkGenerated, 0);
  Stack ours;
  Stack theirs;
  Compare(&ours, &theirs);
  // The code is called by this function, whose callers are the same both times.
  const uint32_t at = code.Place(generated);
  ASSERT_EQ(generated.count - at, ours.count + 1);
  for (uint32_t i = 1; i < ours.count; i++) EXPECT_EQ(generated.frames[at + 1 + i], ours.frames[i]) << i;
}

TEST(Unwind, WrongFramePointersEndTheStack) {
  Generated code(false);
  hak_unit::Random random(1);
  const auto near = reinterpret_cast<uintptr_t>(&code);
  for (int i = 0; i < 2000; i++) {
    code.Call(WalkGenerated, random.OneIn(2) ? random.Next() : (near + random.Below(100000) - 50000) & ~7ull);
    ASSERT_LT(code.Place(generated), generated.count);
  }
}

}  // namespace
