// SPDX-License-Identifier: Apache-2.0
//
// For tests: a tracer of the process's own probes. It knows of them what a tracer knows, the notes in the program's
// file. It raises semaphores, and puts traps in the places of the probes, as the kernel does.
#ifndef HAKMEM_PROF_TEST_TRACER_H_
#define HAKMEM_PROF_TEST_TRACER_H_

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace hak_unit {

struct ProbeNote {
  std::string provider;
  std::string name;
  std::string arguments;
  uintptr_t pc;  // where it is in this process, as the semaphore
  uintptr_t semaphore;
  bool in_file;  // the semaphore has bytes in the file, by whose place the kernel finds it
};

// How far the program's addresses are from those in its file.
inline int FirstBias(struct dl_phdr_info *info, size_t, void *bias) {
  *static_cast<uintptr_t *>(bias) = info->dlpi_addr;
  return 1;
}

// The notes of this program, of any provider.
inline std::vector<ProbeNote> ProbeNotes() {
  std::ifstream stream("/proc/self/exe", std::ios::binary);
  const std::string file((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::vector<ProbeNote> notes;
  Elf64_Ehdr header;
  if (file.size() < sizeof header) return notes;
  memcpy(&header, file.data(), sizeof header);
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  memcpy(sections.data(), file.data() + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  const char *const names = file.data() + sections[header.e_shstrndx].sh_offset;
  uintptr_t bias = 0;
  uintptr_t base = 0;
  dl_iterate_phdr(FirstBias, &bias);
  for (const Elf64_Shdr &section : sections) {
    if (strcmp(names + section.sh_name, ".stapsdt.base") == 0) base = section.sh_addr;
  }
  for (const Elf64_Shdr &section : sections) {
    if (strcmp(names + section.sh_name, ".note.stapsdt") != 0) continue;
    const char *at = file.data() + section.sh_offset;
    const char *const end = at + section.sh_size;
    while (at < end) {
      Elf64_Nhdr note;
      memcpy(&note, at, sizeof note);
      const char *const text = at + sizeof note + ((note.n_namesz + 3) & ~3u);
      Elf64_Addr words[3];
      memcpy(words, text, sizeof words);
      ProbeNote probe = {};
      probe.provider = text + sizeof words;
      probe.name = text + sizeof words + probe.provider.size() + 1;
      probe.arguments = text + sizeof words + probe.provider.size() + probe.name.size() + 2;
      probe.pc = words[0] + (base - words[1]) + bias;
      probe.semaphore = words[2] + (base - words[1]) + bias;
      for (const Elf64_Shdr &data : sections) {
        const bool there = data.sh_addr <= words[2] && words[2] < data.sh_addr + data.sh_size;
        probe.in_file = probe.in_file || (there && data.sh_type == SHT_PROGBITS);
      }
      notes.push_back(probe);
      at = text + ((note.n_descsz + 3) & ~3u);
    }
  }
  return notes;
}

// The probe of that name. The test fails unless there is exactly one.
inline ProbeNote FindProbe(const std::string &name) {
  ProbeNote found = {};
  int count = 0;
  for (const ProbeNote &note : ProbeNotes()) {
    if (note.provider != "otel_memory" || note.name != name) continue;
    found = note;
    count++;
  }
  EXPECT_EQ(count, 1) << name;
  return found;
}

// A semaphore that is raised for as long as this lives.
class RaisedSemaphore {
 public:
  explicit RaisedSemaphore(uintptr_t address) : semaphore_(reinterpret_cast<std::atomic<uint16_t> *>(address)) {
    ++*semaphore_;
  }
  ~RaisedSemaphore() { --*semaphore_; }
  RaisedSemaphore(const RaisedSemaphore &) = delete;
  RaisedSemaphore &operator=(const RaisedSemaphore &) = delete;

 private:
  std::atomic<uint16_t> *const semaphore_;
};

// ---- Traps --------------------------------------------------------------------------------------

#if defined(__x86_64__)
using Instruction = uint8_t;
constexpr Instruction kNop = 0x90;
constexpr Instruction kTrap = 0xCC;
constexpr const char *kRegisters[] = {"rdi", "rsi", "rdx"};
inline std::string Argument(int i) { return std::string("8@%") + kRegisters[i]; }
#else
using Instruction = uint32_t;
constexpr Instruction kNop = 0xD503201F;
constexpr Instruction kTrap = 0xD4200000;
constexpr const char *kRegisters[] = {"x0", "x1", "x2"};
inline std::string Argument(int i) { return std::string("8@") + kRegisters[i]; }
#endif

// A probe that was passed.
struct Passed {
  bool is_alloc;
  uint64_t argument[3];
};

// Notes each pass of both probes, by any thread, for as long as it lives. One at a time.
class Tracer {
 public:
  static constexpr size_t kMost = size_t{1} << 16;

  Tracer() : probes_{FindProbe("alloc"), FindProbe("free")} {
    Current() = this;
    struct sigaction action = {};
    action.sa_sigaction = Handle;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGTRAP, &action, &before_);
    for (const ProbeNote &probe : probes_) Patch(probe.pc, kNop, kTrap);
  }
  ~Tracer() {
    for (const ProbeNote &probe : probes_) Patch(probe.pc, kTrap, kNop);
    sigaction(SIGTRAP, &before_, nullptr);
    Current() = nullptr;
  }
  Tracer(const Tracer &) = delete;
  Tracer &operator=(const Tracer &) = delete;

  // What was passed since the last call. For one thread, while no other passes a probe.
  std::vector<Passed> Take() {
    const size_t count = count_.exchange(0);
    EXPECT_LE(count, kMost) << "more than there is room for";
    return std::vector<Passed>(passed_.begin(), passed_.begin() + static_cast<ptrdiff_t>(std::min(count, kMost)));
  }

 private:
  static Tracer *&Current() {
    static Tracer *current;
    return current;
  }

  // ThreadSanitizer keeps no records of code.
  __attribute__((noinline, no_sanitize("thread"))) static void Store(uintptr_t pc, Instruction next) {
    *reinterpret_cast<volatile Instruction *>(pc) = next;
  }
  __attribute__((noinline, no_sanitize("thread"))) static Instruction Load(uintptr_t pc) {
    return *reinterpret_cast<const volatile Instruction *>(pc);
  }
  static void Patch(uintptr_t pc, Instruction expected, Instruction next) {
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    void *const start = reinterpret_cast<void *>(pc & ~(page - 1));
    const size_t size = (pc & (page - 1)) + sizeof next > page ? 2 * page : page;
    ASSERT_EQ(Load(pc), expected) << "the note does not lead to the probe";
    ASSERT_EQ(mprotect(start, size, PROT_READ | PROT_WRITE | PROT_EXEC), 0) << strerror(errno);
    Store(pc, next);
    ASSERT_EQ(mprotect(start, size, PROT_READ | PROT_EXEC), 0) << strerror(errno);
    __builtin___clear_cache(reinterpret_cast<char *>(pc), reinterpret_cast<char *>(pc + sizeof next));
  }

  // Within the allocator: it allocates nothing.
  static void Handle(int, siginfo_t *, void *context) {
    mcontext_t &machine = static_cast<ucontext_t *>(context)->uc_mcontext;
#if defined(__x86_64__)
    const uintptr_t pc = static_cast<uintptr_t>(machine.gregs[REG_RIP]) - sizeof kTrap;
    const uint64_t argument[] = {static_cast<uint64_t>(machine.gregs[REG_RDI]),
                                 static_cast<uint64_t>(machine.gregs[REG_RSI]),
                                 static_cast<uint64_t>(machine.gregs[REG_RDX])};
#else
    const uintptr_t pc = machine.pc;
    const uint64_t argument[] = {machine.regs[0], machine.regs[1], machine.regs[2]};
    machine.pc += sizeof kTrap;
#endif
    Tracer *const self = Current();
    if (pc != self->probes_[0].pc && pc != self->probes_[1].pc) abort();
    const size_t at = self->count_.fetch_add(1);
    if (at >= kMost) return;
    self->passed_[at].is_alloc = pc == self->probes_[0].pc;
    memcpy(self->passed_[at].argument, argument, sizeof argument);
  }

  const ProbeNote probes_[2];
  struct sigaction before_ = {};
  std::atomic<size_t> count_{0};
  std::vector<Passed> passed_ = std::vector<Passed>(kMost);
};

}  // namespace hak_unit

#endif  // HAKMEM_PROF_TEST_TRACER_H_
