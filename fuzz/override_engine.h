// SPDX-License-Identifier: Apache-2.0
//
// The functions of the overriding library, under other names (//allocator/api:override_renamed), so that the C
// library's or a sanitizer's malloc stays where it is: the C functions through the heap's model, then operator new and
// delete, and the names that only the C library has.
//
// An input is a row of records as heap_engine.h has it. The second part reads the same bytes otherwise: byte 0 is the
// form of new and of delete or which of the other functions, byte 1 a byte to write or an argument, bytes 2 and 3
// choose the size, byte 4 the alignment, byte 5 what the new handler does, bit 0 of byte 6 which of the two it is.
#ifndef HAKMEM_FUZZ_OVERRIDE_ENGINE_H_
#define HAKMEM_FUZZ_OVERRIDE_ENGINE_H_

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "allocator/test/allocator_api.h"
#include "fuzz/heap_engine.h"
#include "fuzz/override_names.h"

namespace hak_fuzz {

// A call of operator new.
struct NewRequest {
  unsigned form;  // bit 0 array, bit 1 nothrow, bit 2 aligned
  size_t size;
  size_t align;
  bool Array() const { return (form & 1) != 0; }
  bool Nothrow() const { return (form & 2) != 0; }
  bool Aligned() const { return (form & 4) != 0; }
};

// The C functions of the overriding library; what it has no name for is hak_...
hak_test::AllocatorApi OverrideApi();
// The operator new of the request's form.
void *CallNew(const NewRequest &request);
// An operator delete that fits the request. `how`: 0 plain, 1 sized, 2 nothrow, 3 sized and nothrow.
void CallDelete(const NewRequest &request, void *ptr, unsigned how);

// What is tested; controls put something wrong in a place.
struct OverrideCalls {
  hak_test::AllocatorApi c = OverrideApi();
  void *(*create)(const NewRequest &request) = CallNew;
  void (*destroy)(const NewRequest &request, void *ptr, unsigned how) = CallDelete;
  void (*cfree)(void *ptr) = hak_renamed_cfree;
  void *(*valloc)(size_t size) = hak_renamed_valloc;
  void *(*pvalloc)(size_t size) = hak_renamed_pvalloc;
  void *(*libc_malloc)(size_t size) = hak_renamed___libc_malloc;
  void *(*libc_calloc)(size_t count, size_t size) = hak_renamed___libc_calloc;
  void *(*libc_realloc)(void *ptr, size_t size) = hak_renamed___libc_realloc;
  void (*libc_free)(void *ptr) = hak_renamed___libc_free;
  void *(*libc_memalign)(size_t alignment, size_t size) = hak_renamed___libc_memalign;
  void *(*libc_valloc)(size_t size) = hak_renamed___libc_valloc;
  void *(*libc_pvalloc)(size_t size) = hak_renamed___libc_pvalloc;
  int (*set_option)(int parameter, int value) = hak_renamed_mallopt;
  // Not by their addresses: in the library the structures have the functions' names, so the types are others to
  // UndefinedBehaviorSanitizer.
#if __GLIBC_PREREQ(2, 33)
  struct mallinfo2 (*wide_info)() = [] { return hak_renamed_mallinfo2(); };
#endif
  struct mallinfo (*info)() = [] { return hak_renamed_mallinfo(); };
  int (*info_text)(int options, FILE *stream) = hak_renamed_malloc_info;
  void (*print_stats)() = hak_renamed_malloc_stats;
  int (*trim)(size_t pad) = hak_renamed_malloc_trim;
};

class OverrideEngine {
 public:
  explicit OverrideEngine(const OverrideCalls &calls) : calls_(calls), heap_(calls.c) {}

  // Runs one input and frees everything again; what is wrong it throws (fuzz_target.h).
  void Run(const uint8_t *data, size_t size);

 private:
  void NewDelete(const uint8_t *record);
  void Refused(NewRequest request, uint8_t choice);
  void OtherNames(const uint8_t *record);
  void Info();
  void Text(const uint8_t *record);
  void Stats();

  OverrideCalls calls_;
  HeapEngine heap_;
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_OVERRIDE_ENGINE_H_
