// SPDX-License-Identifier: Apache-2.0
//
// The functions of the overriding library, under other names (//allocator/api:override_renamed), so that the C
// library's or a sanitizer's malloc stays where it is: the C functions through the heap's model, then operator new and
// delete.
//
// An input is a row of records as heap_engine.h has it. The second part reads the same bytes otherwise: byte 0 is the
// form of new and of delete, bytes 2 and 3 choose the size, byte 4 the alignment, byte 5 what the new handler does.
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <initializer_list>
#include <new>

#include "fuzz/fuzz_target.h"
#include "fuzz/heap_engine.h"
#include "fuzz/op_mutator.h"

struct nothrow;  // std::nothrow_t, by the name that the library's C has for it

extern "C" {
void *hak_renamed_malloc(size_t size);
void *hak_renamed_calloc(size_t count, size_t size);
void *hak_renamed_realloc(void *ptr, size_t size);
void *hak_renamed_reallocarray(void *ptr, size_t count, size_t size);
void hak_renamed_free(void *ptr);
void hak_renamed_cfree(void *ptr);
void hak_renamed_free_sized(void *ptr, size_t size);
void hak_renamed_free_aligned_sized(void *ptr, size_t alignment, size_t size);
void *hak_renamed_aligned_alloc(size_t alignment, size_t size);
void *hak_renamed_memalign(size_t alignment, size_t size);
int hak_renamed_posix_memalign(void **out, size_t alignment, size_t size);
void *hak_renamed_valloc(size_t size);
void *hak_renamed_pvalloc(size_t size);
size_t hak_renamed_malloc_usable_size(void *ptr);
int hak_renamed_malloc_trim(size_t pad);
void hak_renamed_malloc_stats(void);
int hak_renamed_mallopt(int parameter, int value);
struct mallinfo2 hak_renamed_mallinfo2(void);
struct mallinfo hak_renamed_mallinfo(void);
int hak_renamed_malloc_info(int options, FILE *stream);
void *hak_renamed___libc_malloc(size_t size);
void *hak_renamed___libc_calloc(size_t count, size_t size);
void *hak_renamed___libc_realloc(void *ptr, size_t size);
void hak_renamed___libc_free(void *ptr);
void *hak_renamed___libc_memalign(size_t alignment, size_t size);
void *hak_renamed___libc_valloc(size_t size);
void *hak_renamed___libc_pvalloc(size_t size);

void *hak_renamed__Znwm(size_t size);
void *hak_renamed__Znam(size_t size);
void *hak_renamed__ZnwmRKSt9nothrow_t(size_t size, const nothrow *tag);
void *hak_renamed__ZnamRKSt9nothrow_t(size_t size, const nothrow *tag);
void *hak_renamed__ZnwmSt11align_val_t(size_t size, size_t align);
void *hak_renamed__ZnamSt11align_val_t(size_t size, size_t align);
void *hak_renamed__ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow *tag);
void *hak_renamed__ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow *tag);
void hak_renamed__ZdlPv(void *ptr);
void hak_renamed__ZdaPv(void *ptr);
void hak_renamed__ZdlPvm(void *ptr, size_t size);
void hak_renamed__ZdaPvm(void *ptr, size_t size);
void hak_renamed__ZdlPvRKSt9nothrow_t(void *ptr, const nothrow *tag);
void hak_renamed__ZdaPvRKSt9nothrow_t(void *ptr, const nothrow *tag);
void hak_renamed__ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const nothrow *tag);
void hak_renamed__ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const nothrow *tag);
void hak_renamed__ZdlPvSt11align_val_t(void *ptr, size_t align);
void hak_renamed__ZdaPvSt11align_val_t(void *ptr, size_t align);
void hak_renamed__ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align);
void hak_renamed__ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align);
void hak_renamed__ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const nothrow *tag);
void hak_renamed__ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const nothrow *tag);
}

namespace {

using hak_fuzz::Check;
using hak_fuzz::Fail;

hak_test::AllocatorApi Api() {
  hak_test::AllocatorApi api;
  api.malloc = hak_renamed_malloc;
  api.calloc = hak_renamed_calloc;
  api.realloc = hak_renamed_realloc;
  api.reallocarray = hak_renamed_reallocarray;
  api.free = hak_renamed_free;
  api.free_sized = hak_renamed_free_sized;
  api.free_aligned_sized = hak_renamed_free_aligned_sized;
  api.aligned_alloc = hak_renamed_aligned_alloc;
  api.memalign = hak_renamed_memalign;
  api.posix_memalign = hak_renamed_posix_memalign;
  return api;
}

uint64_t LiveBlocks() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  Check(hak_stats_get(&stats) == 0, "hak_stats_get fails");
  return stats.live_blocks;
}

// ---- operator new and delete
// -----------------------------------------------------------------------------------------

const nothrow *const kTag = reinterpret_cast<const nothrow *>(&std::nothrow);

int handler_calls_left = 0;

// Gives up, by itself or by an exception, when it was called often enough.
void GiveUpHandler() {
  if (--handler_calls_left <= 0) std::set_new_handler(nullptr);
}
void ThrowingHandler() {
  if (--handler_calls_left <= 0) throw std::bad_alloc();
}

struct Request {
  unsigned form;  // bit 0 array, bit 1 nothrow, bit 2 aligned
  size_t size;
  size_t align;
  bool Array() const { return (form & 1) != 0; }
  bool Nothrow() const { return (form & 2) != 0; }
  bool Aligned() const { return (form & 4) != 0; }
};

void *New(const Request &request) {
  const nothrow *const tag = kTag;
  switch (request.form & 7) {
    case 0:
      return hak_renamed__Znwm(request.size);
    case 1:
      return hak_renamed__Znam(request.size);
    case 2:
      return hak_renamed__ZnwmRKSt9nothrow_t(request.size, tag);
    case 3:
      return hak_renamed__ZnamRKSt9nothrow_t(request.size, tag);
    case 4:
      return hak_renamed__ZnwmSt11align_val_t(request.size, request.align);
    case 5:
      return hak_renamed__ZnamSt11align_val_t(request.size, request.align);
    case 6:
      return hak_renamed__ZnwmSt11align_val_tRKSt9nothrow_t(request.size, request.align, tag);
    default:
      return hak_renamed__ZnamSt11align_val_tRKSt9nothrow_t(request.size, request.align, tag);
  }
}

// `how`: 0 plain, 1 sized, 2 nothrow, 3 sized and nothrow.
void Delete(const Request &request, void *ptr, unsigned how) {
  const nothrow *const tag = kTag;
  const bool array = request.Array();
  const size_t size = request.size;
  const size_t align = request.align;
  if (request.Aligned()) {
    switch (how % 3) {
      case 0:
        return (array ? hak_renamed__ZdaPvSt11align_val_t : hak_renamed__ZdlPvSt11align_val_t)(ptr, align);
      case 1:
        return (array ? hak_renamed__ZdaPvmSt11align_val_t : hak_renamed__ZdlPvmSt11align_val_t)(ptr, size, align);
      default:
        return (array ? hak_renamed__ZdaPvSt11align_val_tRKSt9nothrow_t
                      : hak_renamed__ZdlPvSt11align_val_tRKSt9nothrow_t)(ptr, align, tag);
    }
  }
  switch (how % 4) {
    case 0:
      return (array ? hak_renamed__ZdaPv : hak_renamed__ZdlPv)(ptr);
    case 1:
      return (array ? hak_renamed__ZdaPvm : hak_renamed__ZdlPvm)(ptr, size);
    case 2:
      return (array ? hak_renamed__ZdaPvRKSt9nothrow_t : hak_renamed__ZdlPvRKSt9nothrow_t)(ptr, tag);
    default:
      return (array ? hak_renamed__ZdaPvmRKSt9nothrow_t : hak_renamed__ZdlPvmRKSt9nothrow_t)(ptr, size, tag);
  }
}

// No allocator has so much; the request fails, the handler is asked as often as it wants, and then the form decides.
void Refused(Request request, uint8_t choice) {
  request.size = SIZE_MAX / 2 + 1 + request.size;
  const int calls = choice % 4;
  handler_calls_left = calls;
  std::set_new_handler(calls == 0 ? nullptr : choice % 8 < 4 ? GiveUpHandler : ThrowingHandler);
  bool threw = false;
  void *ptr = nullptr;
  try {
    ptr = New(request);
  } catch (const std::bad_alloc &) {
    threw = true;
  }
  std::set_new_handler(nullptr);
  Check(ptr == nullptr, "operator new gives what nobody has");
  Check(threw != request.Nothrow(), "operator new throws when it must not, or does not when it must");
  Check(handler_calls_left == 0, "the new handler was not called as often as it asked for");
}

void NewDelete(const uint8_t *record) {
  const Request request = {
      .form = record[0] & 7u,
      .size = hak_fuzz::DecodeSize(record) % (4u << 20),
      .align = size_t{1} << (record[4] % 17),
  };
  if (record[0] >= 240) return Refused(request, record[5]);
  void *ptr = New(request);
  Check(ptr != nullptr, "operator new gives nothing");
  const uintptr_t align = request.Aligned() && request.align > 16 ? request.align : 16;
  Check(reinterpret_cast<uintptr_t>(ptr) % align == 0, "operator new is misaligned");
  Check(hak_renamed_malloc_usable_size(ptr) >= request.size, "operator new gives too little");
  memset(ptr, record[1], request.size);
  Delete(request, ptr, record[0] >> 3);
}

// ---- The functions that the model does not know
// ------------------------------------------------------------------------

void Aligned(void *ptr, size_t size, size_t align) {
  Check(ptr != nullptr && reinterpret_cast<uintptr_t>(ptr) % align == 0, "a page-aligned block is not");
  memset(ptr, 1, size);
}

// malloc_stats writes to stderr, which is a file for that while.
void Stats() {
  const int file = memfd_create("malloc_stats", MFD_CLOEXEC);
  const int kept = dup(2);
  if (file >= 0 && kept >= 0 && dup2(file, 2) == 2) {
    hak_renamed_malloc_stats();
    dup2(kept, 2);
    char text[1024] = {};
    Check(pread(file, text, sizeof text - 1, 0) > 0, "malloc_stats says nothing");
    Check(strstr(text, "hakmem: live blocks = ") != nullptr, "malloc_stats does not tell the live blocks");
  }
  if (kept >= 0) close(kept);
  if (file >= 0) close(file);
}

void LibcNames(const uint8_t *record) {
  const size_t size = hak_fuzz::DecodeSize(record) % (1u << 20);
  switch (record[0] % 8) {
    case 0: {
      void *ptr = hak_renamed_valloc(size);
      Aligned(ptr, size, 4096);
      return hak_renamed_cfree(ptr);
    }
    case 1: {
      void *ptr = hak_renamed_pvalloc(size);
      Aligned(ptr, (size + 4095) / 4096 * 4096, 4096);
      Check(hak_renamed_pvalloc(SIZE_MAX - size) == nullptr, "pvalloc gives what nobody has");
      return hak_renamed_free(ptr);
    }
    case 2: {
      void *ptr = hak_renamed___libc_realloc(hak_renamed___libc_malloc(size), 2 * size + 1);
      Aligned(ptr, 2 * size + 1, 16);
      return hak_renamed___libc_free(ptr);
    }
    case 3: {
      auto *ptr = static_cast<unsigned char *>(hak_renamed___libc_calloc(size + 1, 1));
      Check(ptr != nullptr && ptr[0] == 0 && ptr[size] == 0, "calloc is not zero");
      return hak_renamed_free(ptr);
    }
    case 4:
      for (void *ptr :
           {hak_renamed___libc_memalign(64, size), hak_renamed___libc_valloc(size), hak_renamed___libc_pvalloc(size)}) {
        Aligned(ptr, size, 64);
        hak_renamed___libc_free(ptr);
      }
      return;
    case 5:
      for (const int parameter : {M_MXFAST, M_MMAP_MAX, M_ARENA_MAX}) {
        Check(hak_renamed_mallopt(parameter, record[1]) == 1, "mallopt refuses a parameter of glibc");
      }
      Check(hak_renamed_mallopt(1000 + record[1], 0) == 0, "mallopt takes what is no parameter");
      return;
    case 6: {
      const struct mallinfo2 wide = hak_renamed_mallinfo2();
      const struct mallinfo info = hak_renamed_mallinfo();
      Check(wide.uordblks <= wide.arena + wide.hblkhd, "mallinfo2: more in use than mapped");
      const char *origin = nullptr;
      Check(hak_config_get("HAKMEM_DECOMMIT_DEADLINE_MS", &origin) != nullptr && origin != nullptr,
            "a gate has no value");
      Check(hak_config_get("HAKMEM_PROFILE", nullptr) != nullptr, "the preset has no name");
      Check(hak_config_get("HAKMEM_", &origin) == nullptr, "what is no gate has a value");
      Check(static_cast<size_t>(info.uordblks) == wide.uordblks || info.uordblks == INT32_MAX, "mallinfo differs");
      return;
    }
    default: {
      char text[2048] = {};
      FILE *stream = fmemopen(text, sizeof text, "w");
      if (stream == nullptr) return;
      Check(hak_renamed_malloc_info(record[1] % 2, stream) == -(record[1] % 2), "malloc_info's result");
      fclose(stream);
      Check((strstr(text, "</malloc>") != nullptr) == (record[1] % 2 == 0), "malloc_info's text");
      hak_renamed_malloc_trim(size);
      if (record[1] % 8 == 2) Stats();
      return;
    }
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static hak_fuzz::HeapEngine engine{Api()};
  for (const hak_test::Violation &violation : engine.Run(data, size)) {
    Fail(std::string(hak_test::OracleName(violation.oracle)) + ": " + violation.what);
  }
  const uint64_t before = LiveBlocks();
  const size_t records = size / hak_fuzz::kRecord;
  for (size_t i = 0; i < records && i < hak_fuzz::kHeapOpsMax; ++i) {
    const uint8_t *record = data + i * hak_fuzz::kRecord;
    if (record[6] % 2 == 0) {
      NewDelete(record);
    } else {
      LibcNames(record);
    }
  }
  Check(LiveBlocks() == before, "blocks are left over");
  return 0;
}
