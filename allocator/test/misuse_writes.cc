// SPDX-License-Identifier: Apache-2.0
//
// Writes outside a block, into a freed block, or over records that the allocator may keep there; and code that runs in
// the heap.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <initializer_list>

#include "allocator/test/misuse_case.h"

namespace misuse {
namespace {

constexpr size_t kPage = 4096;
// Even, so that it always differs from a block's contents.
constexpr int kOverwrite = 'b';

// ---- Overflow and underflow ---------------------------------------------------------------------

size_t Gap(const Block &low, const Block &high) { return static_cast<size_t>(high.start - (low.start + low.size)); }

// The victim becomes a block among the others that has another block close behind it, or close before it.
void FindNeighbours(Scene &scene, bool behind) {
  LiveSet &live = scene.live;
  live.SortByAddress();
  size_t best = SIZE_MAX;
  for (size_t i = live.Count() / 4; i <= live.Count() * 3 / 4; ++i) {
    const size_t gap = behind ? Gap(live[i], live[i + 1]) : Gap(live[i - 1], live[i]);
    if (gap >= best) continue;
    best = gap;
    scene.victim = live[i].start;
    scene.other = live[behind ? i + 1 : i - 1].start;
  }
}

void NeighbourBehind(Scene &scene) { FindNeighbours(scene, true); }
void NeighbourBefore(Scene &scene) { FindNeighbours(scene, false); }

// Writes there, and then uses both blocks as a program would.
void WriteOutside(Scene &scene, unsigned char *at, int value, size_t length) {
  StageMisuse(at);
  memset(Hide(at), value, length);
  Stage("next");
  scene.live.Check();
  scene.live.Free(scene.victim);
  scene.live.Free(scene.other);
}

template <size_t kLength>
void Overflow(Scene &scene) {
  WriteOutside(scene, scene.victim + scene.size, kOverwrite, kLength);
}
template <size_t kLength>
void Underflow(Scene &scene) {
  WriteOutside(scene, scene.victim - kLength, kOverwrite, kLength);
}
void OverflowNul(Scene &scene) { WriteOutside(scene, scene.victim + scene.size, 0, 1); }
void UnderflowNul(Scene &scene) { WriteOutside(scene, scene.victim - 1, 0, 1); }

// ---- Writes after free --------------------------------------------------------------------------

// Remote: another thread frees the blocks, and ends.
void FreeTwo(Scene &scene) {
  scene.live.Free(scene.other);
  scene.live.Free(scene.victim);
}
void FreeTwoSomewhere(Scene &scene) {
  if (scene.remote) {
    OnAnotherThread(FreeTwo, scene);
  } else {
    FreeTwo(scene);
  }
}

void WriteFreed(Scene &scene, size_t offset, const void *bytes, size_t length) {
  StageMisuse(scene.victim + offset);
  memcpy(Hide(scene.victim) + offset, bytes, length);
  Stage("next");
  UseAgain(scene);
  scene.live.Check();
}

void WriteWord(Scene &scene, size_t offset, uint64_t word) { WriteFreed(scene, offset, &word, sizeof word); }

constexpr uint64_t kWord = 0xFEFEFEFEFEFEFEFE;

void FirstWord(Scene &scene) { WriteWord(scene, 0, kWord); }
void Middle(Scene &scene) { WriteWord(scene, scene.size / 2, kWord); }

void FreeAndUseAgain(Scene &scene) {
  FreeTwoSomewhere(scene);
  for (size_t i = 0; i < AgainOf(scene.size); ++i) {
    if (scene.live.New(scene.size) == scene.victim) break;
  }
}

// ---- Forged links -------------------------------------------------------------------------------

alignas(64) unsigned char g_target[4096];

void LinkWild(Scene &scene) { WriteWord(scene, 0, 0x4141414141414140); }
void LinkPartial(Scene &scene) { WriteFreed(scene, 0, "\x40\x41", 2); }
void LinkSelf(Scene &scene) { WriteWord(scene, 0, reinterpret_cast<uintptr_t>(scene.victim)); }

// The forged link is the address of an object of the program, which malloc would then hand out.
void LinkToAddress(Scene &scene) {
  if (scene.size <= sizeof g_target) scene.live.Add(g_target, scene.size);
  WriteWord(scene, 0, reinterpret_cast<uintptr_t>(g_target));
  if (scene.size <= sizeof g_target) scene.live.Forget(g_target);
}

// ---- The allocator's records --------------------------------------------------------------------

void SmashHeader(Scene &scene) { WriteOutside(scene, scene.victim - 16, kOverwrite, 16); }

// Inaccessible memory counts as mapped too; the emulator's mincore considers it unmapped.
bool IsMapped(uintptr_t page) { return msync(reinterpret_cast<void *>(page), kPage, MS_ASYNC) == 0; }

// The start of the 2 MiB, the 64 KiB or the page that contains the block. If none of them is mapped and outside of
// blocks, there is nothing to overwrite.
void SmashMetadata(Scene &scene) {
  // For a block with a mapping of its own, the memory there is unrelated.
  if (scene.size > 32768) NotApplicable("metadata near the block");
  const auto block = reinterpret_cast<uintptr_t>(scene.victim);
  for (const uintptr_t unit : {uintptr_t{2} << 20, uintptr_t{1} << 16, uintptr_t{1} << 12}) {
    const uintptr_t head = block & ~(unit - 1);
    if (!IsMapped(head & ~(kPage - 1))) continue;
    bool in_block = false;
    for (size_t i = 0; i < scene.live.Count(); ++i) {
      const auto start = reinterpret_cast<uintptr_t>(scene.live[i].start);
      in_block = in_block || (head < start + scene.size && start < head + 256);
    }
    if (in_block) continue;
    WriteOutside(scene, reinterpret_cast<unsigned char *>(head), kOverwrite, 256);
    return;
  }
  NotApplicable("metadata near the block");
}

void Execute(Scene &scene) {
#if defined(__aarch64__)
  const unsigned char code[] = {0xC0, 0x03, 0x5F, 0xD6};  // ret
#else
  const unsigned char code[] = {0xC3};  // ret
#endif
  unsigned char *p = scene.live.New(scene.size);
  memcpy(p, code, sizeof code);
  __builtin___clear_cache(reinterpret_cast<char *>(p), reinterpret_cast<char *>(p) + sizeof code);
  scene.live.Forget(p);
  StageMisuse(p);
  void (*function)();
  memcpy(&function, &p, sizeof function);
  function();
  Harm("code runs in the heap");
  Stage("next");
}

const Case kCases[] = {
    {"overflow/1", NeighbourBehind, Overflow<1>, 0},
    {"overflow/8", NeighbourBehind, Overflow<8>, 0},
    {"overflow/32", NeighbourBehind, Overflow<32>, 0},
    {"overflow/page", NeighbourBehind, Overflow<kPage>, 0},
    {"overflow/nul", NeighbourBehind, OverflowNul, 0},
    {"underflow/1", NeighbourBefore, Underflow<1>, 0},
    {"underflow/8", NeighbourBefore, Underflow<8>, 0},
    {"underflow/32", NeighbourBefore, Underflow<32>, 0},
    {"underflow/page", NeighbourBefore, Underflow<kPage>, 0},
    {"underflow/nul", NeighbourBefore, UnderflowNul, 0},
    {"write_after_free/first_word", FreeTwoSomewhere, FirstWord, kByMain},
    {"write_after_free/middle", FreeTwoSomewhere, Middle, kByMain},
    {"write_after_reuse/first_word", FreeAndUseAgain, FirstWord, kByMain},
    {"write_after_reuse/middle", FreeAndUseAgain, Middle, kByMain},
    {"forged_link/wild", FreeTwoSomewhere, LinkWild, kByMain},
    {"forged_link/partial", FreeTwoSomewhere, LinkPartial, kByMain},
    {"forged_link/address", FreeTwoSomewhere, LinkToAddress, kByMain},
    {"forged_link/self", FreeTwoSomewhere, LinkSelf, kByMain},
    {"smashed/header", NeighbourBefore, SmashHeader, 0},
    {"smashed/metadata", NeighbourBefore, SmashMetadata, 0},
    {"executable_heap/call", nullptr, Execute, 0},
};

}  // namespace

CaseList Writes() { return {kCases, sizeof kCases / sizeof kCases[0]}; }

}  // namespace misuse
