// SPDX-License-Identifier: Apache-2.0
//
// Probes for tracers in SystemTap's format, "USDT": a probe is an instruction that does nothing, and a note in the ELF
// section .note.stapsdt that says where it is and in which registers its arguments are. A tracer (gdb, perf, bpftrace,
// an eBPF profiler) finds the note in the file, and replaces the instruction by a trap. It raises the probe's
// semaphore, a counter in the section .probes, for as long as it is attached.
//
// The section with the notes is not loaded: a program does not become larger in memory. The linker keeps it, also with
// --gc-sections, and strip leaves it alone. <sys/sdt.h> would do the same, but those who embed hakmem need not have it.
//
// A note has three words: the address of the instruction, that of the section .stapsdt.base, by which a tracer sees how
// far a prelinker has moved the file, and that of the semaphore. Then follow the provider's name, the probe's name and
// the arguments, each as SIZE@REGISTER. The registers are those in which a function gets its arguments, because some
// tracers read no others.
#ifndef HAKMEM_PROF_USDT_H_
#define HAKMEM_PROF_USDT_H_

#include "allocator/os/base.h"

#if defined(__x86_64__)
#define HAK_USDT_REGISTER_1 "rdi"
#define HAK_USDT_REGISTER_2 "rsi"
#define HAK_USDT_REGISTER_3 "rdx"
// In inline assembly %% is %.
#define HAK_USDT_ARGUMENT(name) "8@%%" name
#define HAK_USDT_REFERENCE "R_X86_64_NONE"
#elif defined(__aarch64__)
#define HAK_USDT_REGISTER_1 "x0"
#define HAK_USDT_REGISTER_2 "x1"
#define HAK_USDT_REGISTER_3 "x2"
#define HAK_USDT_ARGUMENT(name) "8@" name
#define HAK_USDT_REFERENCE "R_AARCH64_NONE"
#else
#error "which registers have a function's arguments?"
#endif

// Stands before the definition of a function with a probe. In a program that never calls it, the linker discards it,
// and gold then takes the note for a mistake. A section with this word in its name is one that gold does not discard.
#define HAK_USDT_FUNCTION HAK_NOINLINE __attribute__((section(".text.hak_usdt_personality")))

// Stands before the definition of a semaphore, an atomic uint16_t that begins as 0. `used`: only the note names it, and
// link-time optimisation does not read notes. It has bytes in the file: the kernel finds the counter by its place
// there.
#define HAK_USDT_SEMAPHORE __attribute__((section(".probes"), used))

// The texts of a probe's assembly: the instruction, the note, and the section that all notes of a file refer to. lld
// keeps that section only if code refers to it too.
#define HAK_USDT_CODE(provider, name, semaphore, arguments)              \
  "\t.reloc 990f, " HAK_USDT_REFERENCE                                   \
  ", _.stapsdt.base\n"                                                   \
  "990:\tnop\n"                                                          \
  "\t.pushsection .note.stapsdt,\"\",@note\n"                            \
  "\t.balign 4\n"                                                        \
  "\t.4byte 992f-991f, 994f-993f, 3\n"                                   \
  "991:\t.asciz \"stapsdt\"\n"                                           \
  "992:\t.balign 4\n"                                                    \
  "993:\t.8byte 990b, _.stapsdt.base, " semaphore                        \
  "\n"                                                                   \
  "\t.asciz \"" provider "\", \"" name "\", \"" arguments                \
  "\"\n"                                                                 \
  "994:\t.balign 4\n"                                                    \
  "\t.popsection\n"                                                      \
  "\t.ifndef _.stapsdt.base\n"                                           \
  "\t.pushsection .stapsdt.base,\"aG\",@progbits,.stapsdt.base,comdat\n" \
  "\t.weak _.stapsdt.base\n"                                             \
  "\t.hidden _.stapsdt.base\n"                                           \
  "_.stapsdt.base:\t.space 1\n"                                          \
  "\t.size _.stapsdt.base, 1\n"                                          \
  "\t.popsection\n"                                                      \
  "\t.endif\n"

// A probe with one argument, or with three, of 8 bytes each. `provider`, `name` and `semaphore` are string literals.
// Once for each probe, in a function that is not inlined: some tracers would show a second place as a second probe.
// "memory": a tracer sees all that was written before.
#define HAK_USDT_1(provider, name, semaphore, a)                                                      \
  do {                                                                                                \
    register uint64_t usdt_1 __asm__(HAK_USDT_REGISTER_1) = (a);                                      \
    __asm__ volatile(HAK_USDT_CODE(provider, name, semaphore, HAK_USDT_ARGUMENT(HAK_USDT_REGISTER_1)) \
                     :                                                                                \
                     : "r"(usdt_1)                                                                    \
                     : "memory");                                                                     \
  } while (0)
#define HAK_USDT_3(provider, name, semaphore, a, b, c)                                                  \
  do {                                                                                                  \
    register uint64_t usdt_1 __asm__(HAK_USDT_REGISTER_1) = (a);                                        \
    register uint64_t usdt_2 __asm__(HAK_USDT_REGISTER_2) = (b);                                        \
    register uint64_t usdt_3 __asm__(HAK_USDT_REGISTER_3) = (c);                                        \
    __asm__ volatile(HAK_USDT_CODE(provider, name, semaphore,                                           \
                                   HAK_USDT_ARGUMENT(HAK_USDT_REGISTER_1) " " HAK_USDT_ARGUMENT(        \
                                       HAK_USDT_REGISTER_2) " " HAK_USDT_ARGUMENT(HAK_USDT_REGISTER_3)) \
                     :                                                                                  \
                     : "r"(usdt_1), "r"(usdt_2), "r"(usdt_3)                                            \
                     : "memory");                                                                       \
  } while (0)

#endif  // HAKMEM_PROF_USDT_H_
