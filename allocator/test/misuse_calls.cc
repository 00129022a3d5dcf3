// SPDX-License-Identifier: Apache-2.0
//
// Pointers that are not live blocks, passed to free, realloc and malloc_usable_size; and frees with a wrong size or
// alignment.
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "allocator/test/misuse_case.h"

// C23: not in every C library, and not in every allocator that replaces its malloc.
extern "C" __attribute__((weak)) void free_sized(void *ptr, size_t size);
extern "C" __attribute__((weak)) void free_aligned_sized(void *ptr, size_t alignment, size_t size);

namespace misuse {
namespace {

constexpr size_t kLargest = 2 * 1024 * 1024;

alignas(64) unsigned char g_global[kLargest];

void FreeWrongly(void *pointer) {
  StageMisuse(pointer);
  free(Hide(pointer));
  Stage("next");
}

// ---- Invalid frees ------------------------------------------------------------------------------

void Stack(Scene &) {
  alignas(64) unsigned char local[4096] = {};
  FreeWrongly(Hide(local) + 256);
}

void Global(Scene &) { FreeWrongly(g_global + 256); }

void Interior(Scene &scene) { FreeWrongly(scene.victim + scene.size / 2); }

void Misaligned(Scene &scene) { FreeWrongly(scene.victim + 1); }

void *Map(size_t size) {
  void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) _exit(3);
  return p;
}

size_t MappedSize(const Scene &scene) { return scene.size < 65536 ? 65536 : scene.size; }

void Unmapped(Scene &scene) {
  void *p = Map(MappedSize(scene));
  if (munmap(p, MappedSize(scene)) != 0) _exit(3);
  FreeWrongly(p);
}

void Foreign(Scene &scene) {
  auto *p = static_cast<unsigned char *>(Map(MappedSize(scene)));
  scene.live.Add(p, MappedSize(scene));
  StageMisuse(p);
  free(Hide(p));
  Stage("next");
  // The allocator must not hand out memory that was never its own.
  UseAgain(scene);
  scene.live.Check();
  scene.live.Forget(p);
}

// An address where a block of the size could begin, beyond all blocks that were handed out, computed from the distance
// of neighbours. For small blocks it is at the end of the surrounding 64 KiB, which the allocator has not touched yet.
void NeverAllocated(Scene &scene) {
  scene.live.SortByAddress();
  size_t stride = SIZE_MAX;
  for (size_t i = 1; i < scene.live.Count(); ++i) {
    const auto distance = static_cast<size_t>(scene.live[i].start - scene.live[i - 1].start);
    if (distance < stride) stride = distance;
  }
  auto address = reinterpret_cast<uintptr_t>(scene.live[scene.live.Count() - 1].start) + stride;
  while (stride < 65536 && (address + stride) % 65536 > address % 65536) address += stride;
  // If blocks have mappings of their own, the mappings of the program's start lie above them.
  if (stride >= 65536) address = reinterpret_cast<uintptr_t>(scene.live[0].start) - stride;
  FreeWrongly(reinterpret_cast<void *>(address));
}

// ---- Wrong sizes and alignments -----------------------------------------------------------------

void FreeSized(Scene &scene, size_t size) {
  if (free_sized == nullptr) NotApplicable("free_sized");
  scene.live.Forget(scene.victim);
  StageMisuse(scene.victim);
  free_sized(Hide(scene.victim), size);
  Stage("next");
}

void SizedSmaller(Scene &scene) { FreeSized(scene, scene.size / 2); }
void SizedLarger(Scene &scene) { FreeSized(scene, scene.size * 2); }

// Twice the alignment of the address.
size_t WrongAlignment(const void *p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return 2 * (address & (0 - address));
}

// In the cases below the victim is not from malloc.
void TakeNew(Scene &scene) { scene.victim = static_cast<unsigned char *>(Hide(::operator new(scene.size))); }
void TakeAligned(Scene &scene) { scene.victim = static_cast<unsigned char *>(Hide(aligned_alloc(64, scene.size))); }
void TakeAlignedNew(Scene &scene) {
  scene.victim = static_cast<unsigned char *>(Hide(::operator new(scene.size, std::align_val_t(64))));
}

void Delete(Scene &scene, size_t size) {
  StageMisuse(scene.victim);
  ::operator delete(Hide(scene.victim), size);
  Stage("next");
}

void DeleteSmaller(Scene &scene) { Delete(scene, scene.size / 2); }
void DeleteLarger(Scene &scene) { Delete(scene, scene.size * 2); }

void DeleteWronglyAligned(Scene &scene) {
  StageMisuse(scene.victim);
  ::operator delete(Hide(scene.victim), scene.size, std::align_val_t(WrongAlignment(scene.victim)));
  Stage("next");
}

void FreeAlignedSized(Scene &scene, size_t alignment, size_t size) {
  if (free_aligned_sized == nullptr) NotApplicable("free_aligned_sized");
  StageMisuse(scene.victim);
  free_aligned_sized(Hide(scene.victim), alignment, size);
  Stage("next");
}

void AlignedLarger(Scene &scene) { FreeAlignedSized(scene, 64, scene.size < 64 ? 128 : scene.size * 2); }
void WronglyAligned(Scene &scene) { FreeAlignedSized(scene, WrongAlignment(scene.victim), scene.size); }

// ---- Other calls --------------------------------------------------------------------------------

void Realloc(Scene &scene, void *pointer, size_t size) {
  StageMisuse(pointer);
  void *now = Hide(realloc(Hide(pointer), size));
  Stage("next");
  if (now != nullptr) scene.live.Add(now, size);
}

void ReallocFreed(Scene &scene) {
  scene.live.Free(scene.victim);
  Realloc(scene, scene.victim, scene.size * 2);
}

void ReallocFreedInPlace(Scene &scene) {
  scene.live.Free(scene.victim);
  Realloc(scene, scene.victim, scene.size - 1);
}

void ReallocInterior(Scene &scene) { Realloc(scene, scene.victim + scene.size / 2, scene.size); }
void ReallocGlobal(Scene &scene) { Realloc(scene, g_global + 256, scene.size); }

void UsableSize(void *pointer) {
  StageMisuse(pointer);
  const size_t size = malloc_usable_size(Hide(pointer));
  Stage("next");
  // As a program that may write this many bytes.
  if (size > kLargest * 4) Harm("usable size out of all bounds");
}

void UsableSizeOfFreed(Scene &scene) {
  scene.live.Free(scene.victim);
  UsableSize(scene.victim);
}

void UsableSizeOfInterior(Scene &scene) { UsableSize(scene.victim + scene.size / 2); }
void UsableSizeOfGlobal(Scene &) { UsableSize(g_global + 256); }

const Case kCases[] = {
    {"invalid_free/stack", nullptr, Stack, 0},
    {"invalid_free/global", nullptr, Global, 0},
    {"invalid_free/interior", nullptr, Interior, 0},
    {"invalid_free/misaligned", nullptr, Misaligned, 0},
    {"invalid_free/unmapped", nullptr, Unmapped, 0},
    {"invalid_free/foreign", nullptr, Foreign, 0},
    {"invalid_free/never_allocated", nullptr, NeverAllocated, 0},
    {"wrong_size/free_sized_smaller", nullptr, SizedSmaller, 0},
    {"wrong_size/free_sized_larger", nullptr, SizedLarger, 0},
    {"wrong_size/delete_smaller", TakeNew, DeleteSmaller, 0},
    {"wrong_size/delete_larger", TakeNew, DeleteLarger, 0},
    {"wrong_size/free_aligned_sized_larger", TakeAligned, AlignedLarger, 0},
    {"wrong_alignment/free_aligned_sized", TakeAligned, WronglyAligned, 0},
    {"wrong_alignment/delete", TakeAlignedNew, DeleteWronglyAligned, 0},
    {"realloc/freed", nullptr, ReallocFreed, 0},
    {"realloc/freed_in_place", nullptr, ReallocFreedInPlace, 0},
    {"realloc/interior", nullptr, ReallocInterior, 0},
    {"realloc/global", nullptr, ReallocGlobal, 0},
    {"usable_size/freed", nullptr, UsableSizeOfFreed, 0},
    {"usable_size/interior", nullptr, UsableSizeOfInterior, 0},
    {"usable_size/global", nullptr, UsableSizeOfGlobal, 0},
};

}  // namespace

CaseList WrongCalls() { return {kCases, sizeof kCases / sizeof kCases[0]}; }

}  // namespace misuse
