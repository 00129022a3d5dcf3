// SPDX-License-Identifier: Apache-2.0
//
// The functions of the override under other names (//allocator/api:override_renamed), so that the C library's or a
// sanitizer's malloc stays in place: the C functions through the heap's model, then operator new and delete, and the
// functions that only the C library has.
//
// An input is a sequence of records as in heap_engine.h. The second part reads the same bytes in another way: byte 0
// selects the form of new and delete, or one of the other functions; byte 1 is a byte to write or an argument; bytes 2
// and 3 select the size, byte 4 the alignment, byte 5 what the new handler does, bit 0 of byte 6 which of the two
// kinds of call it is, and byte 7 by which of its names operator new is called.
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
  unsigned name = 0;  // 0 of C++, 1 one that compilers call, 2 one that also gives the size; then which
  bool Array() const { return (form & 1) != 0; }
  bool Nothrow() const { return (form & 2) != 0; }
  bool Aligned() const { return (form & 4) != 0; }
};

// The C functions of the override; hak_... where it has none.
hak_test::AllocatorApi OverrideApi();
// Calls the operator new of the request's form.
void *CallNew(const NewRequest &request);
// Calls an operator delete that fits the request. `how`: 0 plain, 1 sized, 2 nothrow, 3 sized and nothrow.
void CallDelete(const NewRequest &request, void *ptr, unsigned how);

// The functions under test; controls replace one of them.
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
  // Not by their addresses: in the library the structures have the functions' names, so for UndefinedBehaviorSanitizer
  // the types differ.
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

  // Runs one input and frees everything again; throws what is wrong (fuzz_target.h).
  void Run(const uint8_t *data, size_t size);

 private:
  void NewDelete(const uint8_t *record);
  void Refused(NewRequest request, uint8_t choice);
  void Tokens(const uint8_t *record);
  void OtherNames(const uint8_t *record);
  void Info();
  void Text(const uint8_t *record);
  void Stats();

  OverrideCalls calls_;
  HeapEngine heap_;
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_OVERRIDE_ENGINE_H_
