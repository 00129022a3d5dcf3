// SPDX-License-Identifier: Apache-2.0
//
// Walks the calling thread's stack.
#include "allocator/prof/unwind.h"

#include <ucontext.h>

#include "allocator/meta/meta.h"
#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/readable.h"
#include "allocator/os/report.h"
#include "allocator/prof/cfi.h"
#include "allocator/prof/cfi_frame.h"
#include "allocator/prof/modules.h"
#include "allocator/prof/stack_view.h"

// ---- Rules that were read before ----------------------------------------------------------------

// What a rule holds for: the pc in a file with these tables. A file may be unloaded and another one loaded there, so
// the first bytes of the function's entry in the tables are compared too.
struct known_rule {
  uint64_t pc;
  uint64_t index;
  uint64_t entry;
  uint64_t first[HAK_CFI_ENTRY_LEAST / sizeof(uint64_t)];
  struct hak_cfi_rule rule;
};
#define WORDS (sizeof(struct known_rule) / sizeof(uint64_t))
static_assert(sizeof(struct known_rule) % sizeof(uint64_t) == 0, "a known rule is whole words");

#define PLACES 2048u
// Any thread writes, and reads without waiting. While `version` is odd one thread writes the words; a reader that finds
// it odd, or changed afterwards, reads the tables instead. A child of a fork may find a place odd for ever.
struct place {
  HAK_ATOMIC(uint32_t) version;
  HAK_ATOMIC(uint64_t) words[WORDS];
};
// Made when the first stack is walked, and kept. Written once (release), read by anyone (acquire).
static HAK_ATOMIC(struct place *) places;

static HAK_ATOMIC(uint64_t) rules_read;
static HAK_ATOMIC(uint64_t) rules_found;

static HAK_COLD struct place *make_places(void) {
  struct place *made = hak_meta_alloc(PLACES * sizeof *made);
  struct place *expected = NULL;
  // Release: the places are zero for whoever sees them. Acquire on failure: those of the other thread are, too.
  if (made == NULL ||
      atomic_compare_exchange_strong_explicit(&places, &expected, made, memory_order_release, memory_order_acquire)) {
    return made;
  }
  hak_meta_free(made, PLACES * sizeof *made);
  return expected;
}

// NULL: there is no memory for places, or the process ends.
static struct place *place_of(uintptr_t pc) {
  struct place *all = atomic_load_explicit(&places, memory_order_acquire);  // Acquire: see make_places.
  if (HAK_UNLIKELY(all == NULL) && (hak_report_is_ending() || (all = make_places()) == NULL)) return NULL;
  return &all[pc * 0x9E3779B97F4A7C15u >> 53];
}
static_assert(PLACES == 1u << (64 - 53), "the hash has as many values as there are places");

static bool recall(struct place *place, uintptr_t pc, const struct hak_cfi_tables *tables, struct known_rule *out) {
  uint64_t words[WORDS];
  // Acquire: pairs with the last store of `keep`.
  const uint32_t version = atomic_load_explicit(&place->version, memory_order_acquire);
  // Acquire: the version is read again after each of them.
  for (size_t i = 0; i < WORDS; i++) words[i] = atomic_load_explicit(&place->words[i], memory_order_acquire);
  // Relaxed: after the loads above.
  if ((version & 1) != 0 || atomic_load_explicit(&place->version, memory_order_relaxed) != version) return false;
  hak_bytes_copy(out, words, sizeof *out);
  if (out->pc != pc || out->index != (uintptr_t)tables->index) return false;
  const uint64_t room = (uint64_t)(tables->high - tables->low);
  if (room < HAK_CFI_ENTRY_LEAST || out->entry - (uintptr_t)tables->low > room - HAK_CFI_ENTRY_LEAST) return false;
  uint64_t first[HAK_CFI_ENTRY_LEAST / sizeof(uint64_t)];
  hak_bytes_copy(first, (const void *)(uintptr_t)out->entry, sizeof first);
  return first[0] == out->first[0] && first[1] == out->first[1];
}

static void keep(struct place *place, const struct known_rule *known) {
  uint64_t words[WORDS];
  // Relaxed: the exchange checks it.
  uint32_t version = atomic_load_explicit(&place->version, memory_order_relaxed);
  // Acquire: the stores below come after it. Another thread that writes here has another rule to keep.
  if ((version & 1) != 0 || !atomic_compare_exchange_strong_explicit(&place->version, &version, version + 1,
                                                                     memory_order_acquire, memory_order_relaxed)) {
    return;
  }
  hak_bytes_copy(words, known, sizeof words);
  // Release: a reader that sees one of the words sees that the version is odd.
  for (size_t i = 0; i < WORDS; i++) atomic_store_explicit(&place->words[i], words[i], memory_order_release);
  // Release: a reader that sees the even version sees all words.
  atomic_store_explicit(&place->version, version + 2, memory_order_release);
}

// Relaxed: a statistic.
static void count(HAK_ATOMIC(uint64_t) * counter) { atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); }

struct hak_unwind_counts hak_unwind_counts(void) {
  // Relaxed: as above.
  return (struct hak_unwind_counts){.read = atomic_load_explicit(&rules_read, memory_order_relaxed),
                                    .found = atomic_load_explicit(&rules_found, memory_order_relaxed)};
}

static bool rule_for(uintptr_t pc, const struct hak_cfi_tables *tables, struct hak_cfi_rule *rule) {
  struct place *const place = place_of(pc);
  struct known_rule known;
  if (place != NULL && recall(place, pc, tables, &known)) {
    count(&rules_found);
    *rule = known.rule;
    return true;
  }
  const uint8_t *const entry = hak_cfi_entry(tables, pc);
  if (entry == NULL || !hak_cfi_rule_of(tables, entry, pc, rule)) return false;
  count(&rules_read);
  known = (struct known_rule){.pc = pc, .index = (uintptr_t)tables->index, .entry = (uintptr_t)entry, .rule = *rule};
  hak_bytes_copy(known.first, entry, sizeof known.first);
  if (place != NULL) keep(place, &known);
  return true;
}

// ---- The walk -----------------------------------------------------------------------------------

// On aarch64 the kernel describes no step from a signal handler to what it interrupted.
#if defined(__aarch64__)
// mov x8, #SYS_rt_sigreturn; svc #0
#define SIGNAL_RETURN 0xd4000001d2801168u
// Where the registers are that the kernel stored at the stack pointer: behind siginfo_t and the beginning of
// ucontext_t, x0 to x30, the stack pointer and the pc.
#define SIGNAL_REGISTERS (128u + 176u + 8u)
#define REGISTER_AT(sp, number) ((sp) + SIGNAL_REGISTERS + (uintptr_t)(number) * sizeof(uintptr_t))

static bool is_signal_return(uintptr_t pc) {
  uint64_t code;
  if (pc % sizeof(uint32_t) != 0 || !hak_os_is_readable((const void *)pc)) return false;
  hak_bytes_copy(&code, (const void *)pc, sizeof code);
  return code == SIGNAL_RETURN;
}

static enum hak_frame_step step_by_signal(struct hak_stack_view *view, struct hak_frame *frame) {
  struct hak_frame interrupted = {.after_call = false};
  const uintptr_t sp = frame->sp;
  bool known = hak_stack_read(view, REGISTER_AT(sp, 31), &interrupted.sp) &&
               hak_stack_read(view, REGISTER_AT(sp, 32), &interrupted.pc);
  for (uint32_t i = 0; i < HAK_CFI_SLOTS; i++) {
    known = known && hak_stack_read(view, REGISTER_AT(sp, 19 + i), &interrupted.values[i]);
  }
  // The interrupted code may have run on another stack.
  if (!known || interrupted.sp % sizeof(uintptr_t) != 0) return HAK_FRAME_LOST;
  if ((interrupted.sp <= sp || interrupted.sp > view->limit) && !hak_stack_view_open(view, interrupted.sp, false)) {
    return HAK_FRAME_LOST;
  }
  *frame = interrupted;
  return HAK_FRAME_CALLER;
}
#else
static bool is_signal_return(uintptr_t pc) {
  (void)pc;
  return false;
}
static enum hak_frame_step step_by_signal(struct hak_stack_view *view, struct hak_frame *frame) {
  (void)view;
  (void)frame;
  return HAK_FRAME_LOST;
}
#endif

static enum hak_frame_step step(struct hak_stack_view *view, struct hak_frame *frame) {
  // A call may be the last instruction of its function, so that what follows it belongs to another one.
  const uintptr_t pc = frame->pc - frame->after_call;
  struct hak_cfi_tables tables;
  struct hak_cfi_rule rule;
  if (!hak_module_tables(pc, &tables) || !rule_for(pc, &tables, &rule)) {
    return is_signal_return(frame->pc) ? step_by_signal(view, frame) : hak_frame_step_by_pointer(view, frame);
  }
  return hak_frame_step(&tables, &rule, view, frame);
}

// The registers at the place where it stands: they are those that the tables describe for that pc.
#if defined(__x86_64__)
#define HERE(frame)                                                                              \
  __asm__ volatile(                                                                              \
      "movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%r12, 16(%0)\n\tmovq %%r13, 24(%0)\n\t"   \
      "movq %%r14, 32(%0)\n\tmovq %%r15, 40(%0)\n\tmovq %%rsp, (%1)\n\tleaq 0(%%rip), %%rax\n\t" \
      "movq %%rax, 48(%0)"                                                                       \
      :                                                                                          \
      : "r"((frame)->values), "r"(&(frame)->sp)                                                  \
      : "rax", "memory")
static_assert(HAK_CFI_RBX == 0 && HAK_CFI_FP == 1 && HAK_CFI_R12 == 2 && HAK_CFI_R15 == 5 && HAK_CFI_RETURN == 6,
              "the slots in HERE");
#define PC_OF(frame) ((frame)->values[HAK_CFI_RETURN])
#else
#define HERE(frame)                                                                       \
  __asm__ volatile(                                                                       \
      "stp x19, x20, [%0]\n\tstp x21, x22, [%0, #16]\n\tstp x23, x24, [%0, #32]\n\t"      \
      "stp x25, x26, [%0, #48]\n\tstp x27, x28, [%0, #64]\n\tstp x29, x30, [%0, #80]\n\t" \
      "mov x16, sp\n\tadr x17, .\n\tstp x17, x16, [%1]"                                   \
      :                                                                                   \
      : "r"((frame)->values), "r"(&(frame)->pc)                                           \
      : "x16", "x17", "memory")
static_assert(HAK_CFI_X19 == 0 && HAK_CFI_FP == 10 && HAK_CFI_RETURN == 11 && offsetof(struct hak_frame, pc) == 0 &&
                  offsetof(struct hak_frame, sp) == sizeof(uintptr_t),
              "the slots in HERE");
#define PC_OF(frame) ((frame)->pc)
#endif

// Far more frames than this are not passed over before the first one that is stored.
#define INNER_MAX 64u

HAK_NOINLINE uint32_t hak_unwind(void **out, uint32_t room, const void *from) {
  struct hak_frame frame = {.after_call = false};
  struct hak_stack_view view;
  const void *const first = from != NULL ? from : __builtin_return_address(0);
  uint32_t stored = 0;
  HERE(&frame);
  frame.pc = PC_OF(&frame);
  if (room == 0) return 0;
  if (hak_stack_view_open(&view, frame.sp, true)) {
    for (uint32_t steps = 0; steps < room + INNER_MAX && stored < room; steps++) {
      if (step(&view, &frame) != HAK_FRAME_CALLER) break;
      if (stored == 0 && frame.pc != (uintptr_t)first) continue;
      out[stored++] = (void *)frame.pc;
    }
  }
  if (stored == 0) out[stored++] = (void *)(uintptr_t)first;
  return stored;
}

#if defined(__x86_64__)
static void read_context(struct hak_frame *frame, const ucontext_t *context) {
  const greg_t *const from = context->uc_mcontext.gregs;
  static const int registers[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  for (uint32_t i = 0; i < HAK_CFI_SLOTS; i++) frame->values[i] = (uintptr_t)from[registers[i]];
  frame->sp = (uintptr_t)from[REG_RSP];
  frame->pc = (uintptr_t)from[REG_RIP];
}
#else
static void read_context(struct hak_frame *frame, const ucontext_t *context) {
  for (uint32_t i = 0; i < HAK_CFI_SLOTS; i++) frame->values[i] = (uintptr_t)context->uc_mcontext.regs[19 + i];
  frame->sp = (uintptr_t)context->uc_mcontext.sp;
  frame->pc = (uintptr_t)context->uc_mcontext.pc;
}
#endif

HAK_COLD uint32_t hak_unwind_interrupted(void **out, uint32_t room, const void *context) {
  struct hak_frame frame = {.after_call = false};
  struct hak_stack_view view;
  read_context(&frame, context);
  if (room == 0) return 0;
  out[0] = (void *)frame.pc;
  uint32_t stored = 1;
  if (frame.sp % sizeof(uintptr_t) != 0 || !hak_stack_view_open(&view, frame.sp, false)) return stored;
  while (stored < room && step(&view, &frame) == HAK_FRAME_CALLER) out[stored++] = (void *)frame.pc;
  return stored;
}
