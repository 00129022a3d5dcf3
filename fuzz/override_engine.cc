// SPDX-License-Identifier: Apache-2.0
#include "fuzz/override_engine.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <new>
#include <string>

#include "allocator/test/compiler_names.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kPage = 4096;

const nothrow *const kTag = reinterpret_cast<const nothrow *>(&std::nothrow);

size_t Usable(const void *ptr) { return hak_renamed_malloc_usable_size(const_cast<void *>(ptr)); }

hak_stats Statistics() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  Check(hak_stats_get(&stats) == 0, "hak_stats_get fails");
  return stats;
}

int handler_calls_left = 0;

// Gives up after some calls, by returning or by an exception.
void GiveUpHandler() {
  if (--handler_calls_left <= 0) std::set_new_handler(nullptr);
}
void ThrowingHandler() {
  if (--handler_calls_left <= 0) throw std::bad_alloc();
}

// Allocates a block and writes all of its bytes.
void Expect(void *ptr, size_t size, size_t align, const char *misaligned) {
  Check(ptr != nullptr && reinterpret_cast<uintptr_t>(ptr) % align == 0, misaligned);
  Check(hak_usable_size(ptr) >= size, "a block is smaller than asked for");
  memset(ptr, 1, size);
}

}  // namespace

hak_test::AllocatorApi OverrideApi() {
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
  api.usable_size = Usable;
  return api;
}

// ---- operator new and delete --------------------------------------------------------------------

namespace {

// By one of the names that compilers call; the table has them in the order of the forms.
void *CallCompilerNew(const NewRequest &request, unsigned which) {
  constexpr size_t kNames = std::size(hak_test::kNewNames) / 8;
  const hak_test::NewName &name = hak_test::kNewNames[(request.form & 7) * kNames + which % kNames];
  return name.call(request.size, std::align_val_t{request.align});
}

// By one of the names that also give the size, which the caller may use; none of them is for arrays.
void *CallSizedNew(const NewRequest &request, unsigned which) {
  const auto fits = [&](const hak_test::SizedNewName &name) {
    return name.nothrow == request.Nothrow() && name.aligned == request.Aligned();
  };
  const auto *name = std::begin(hak_test::kSizedNewNames);
  for (unsigned left = which % 8; !fits(*name) || left > 0; left -= fits(*name++) ? 1 : 0) {
    if (name + 1 == std::end(hak_test::kSizedNewNames)) {
      name = std::begin(hak_test::kSizedNewNames);
      if (!fits(*name)) continue;
    }
  }
  const hak_test::SizedPtr block = name->call(request.size, std::align_val_t{request.align});
  if (block.ptr == nullptr) {
    Check(block.size == 0, "operator new gives the size of no block");
  } else {
    Check(block.size >= request.size && block.size <= hak_usable_size(block.ptr), "operator new gives a wrong size");
  }
  return block.ptr;
}

}  // namespace

void *CallNew(const NewRequest &request) {
  if (request.name % 3 == 1) return CallCompilerNew(request, request.name / 3);
  if (request.name % 3 == 2 && !request.Array()) return CallSizedNew(request, request.name / 3);
  switch (request.form & 7) {
    case 0:
      return hak_renamed__Znwm(request.size);
    case 1:
      return hak_renamed__Znam(request.size);
    case 2:
      return hak_renamed__ZnwmRKSt9nothrow_t(request.size, kTag);
    case 3:
      return hak_renamed__ZnamRKSt9nothrow_t(request.size, kTag);
    case 4:
      return hak_renamed__ZnwmSt11align_val_t(request.size, request.align);
    case 5:
      return hak_renamed__ZnamSt11align_val_t(request.size, request.align);
    case 6:
      return hak_renamed__ZnwmSt11align_val_tRKSt9nothrow_t(request.size, request.align, kTag);
    default:
      return hak_renamed__ZnamSt11align_val_tRKSt9nothrow_t(request.size, request.align, kTag);
  }
}

void CallDelete(const NewRequest &request, void *ptr, unsigned how) {
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
                      : hak_renamed__ZdlPvSt11align_val_tRKSt9nothrow_t)(ptr, align, kTag);
    }
  }
  switch (how % 4) {
    case 0:
      return (array ? hak_renamed__ZdaPv : hak_renamed__ZdlPv)(ptr);
    case 1:
      return (array ? hak_renamed__ZdaPvm : hak_renamed__ZdlPvm)(ptr, size);
    case 2:
      return (array ? hak_renamed__ZdaPvRKSt9nothrow_t : hak_renamed__ZdlPvRKSt9nothrow_t)(ptr, kTag);
    default:
      return (array ? hak_renamed__ZdaPvmRKSt9nothrow_t : hak_renamed__ZdlPvmRKSt9nothrow_t)(ptr, size, kTag);
  }
}

// No allocator has that much. The request fails, the handler is called as often as it allows, and then the form
// decides.
void OverrideEngine::Refused(NewRequest request, uint8_t choice) {
  request.size = SIZE_MAX / 2 + 1 + request.size;
  const int calls = choice % 4;
  handler_calls_left = calls;
  std::set_new_handler(calls == 0 ? nullptr : choice % 8 < 4 ? GiveUpHandler : ThrowingHandler);
  bool threw = false;
  void *ptr = nullptr;
  try {
    ptr = calls_.create(request);
  } catch (const std::bad_alloc &) {
    threw = true;
  }
  std::set_new_handler(nullptr);
  Check(ptr == nullptr, "operator new gives what nobody has");
  Check(threw != request.Nothrow(), "operator new throws when it must not, or does not when it must");
  Check(handler_calls_left == 0, "the new handler was not called as often as it asked for");
}

void OverrideEngine::NewDelete(const uint8_t *record) {
  const NewRequest request = {
      .form = record[0] & 7u,
      .size = DecodeSize(record) % (4u << 20),
      .align = size_t{1} << (record[4] % 17),
      .name = record[7],
  };
  if (record[0] >= 240) return Refused(request, record[5]);
  void *ptr = calls_.create(request);
  Check(ptr != nullptr, "operator new gives nothing");
  const uintptr_t align = request.Aligned() && request.align > 16 ? request.align : 16;
  Check(reinterpret_cast<uintptr_t>(ptr) % align == 0, "operator new is misaligned");
  Check(hak_usable_size(ptr) >= request.size, "operator new gives too little");
  Check(calls_.c.usable_size(ptr) == hak_usable_size(ptr), "malloc_usable_size tells another size");
  memset(ptr, record[1], request.size);
  calls_.destroy(request, ptr, record[0] >> 3);
}

// ---- Functions that are not in the model --------------------------------------------------------

void OverrideEngine::Info() {
  const struct mallinfo info = calls_.info();
  const hak_stats stats = Statistics();
  const auto clamped = [](uint64_t value) { return static_cast<int>(std::min<uint64_t>(value, INT32_MAX)); };
  Check(info.uordblks == clamped(stats.live_bytes - stats.large_bytes) && info.hblkhd == clamped(stats.large_bytes) &&
            info.arena == clamped(stats.mapped_bytes - stats.large_bytes),
        "mallinfo differs from the statistics");
#if __GLIBC_PREREQ(2, 33)
  const struct mallinfo2 wide = calls_.wide_info();
  Check(wide.uordblks + wide.fordblks == wide.arena, "mallinfo2: in use and free are not the arena");
  Check(wide.uordblks + wide.hblkhd == stats.live_bytes && wide.arena + wide.hblkhd == stats.mapped_bytes &&
            wide.hblks == stats.large_blocks,
        "mallinfo2 differs from the statistics");
#endif
  const char *origin = nullptr;
  Check(hak_config_get("HAKMEM_DECOMMIT_DEADLINE_MS", &origin) != nullptr && origin != nullptr,
        "a setting has no value");
  Check(hak_config_get("HAKMEM_PROFILE", nullptr) != nullptr, "the preset has no name");
  Check(hak_config_get("HAKMEM_", &origin) == nullptr, "an unknown setting has a value");
  // Sets them to their current values, so that nothing changes for the next input.
  for (const char *name : {"HAKMEM_KEEP_SUPERSLABS", "HAKMEM_BACKGROUND"}) {
    const int code = hak_config_set(name, hak_config_get(name, nullptr));
    Check(code == 0 || (code == EPERM && strstr(hak_version(), " fast ") != nullptr), "a setting cannot be set");
  }
  Check(hak_config_set("HAKMEM_", "1") == EINVAL && hak_config_set(nullptr, nullptr) == EINVAL,
        "an unknown setting can be set");
}

// malloc_stats writes to stderr, which is a file during the call.
void OverrideEngine::Stats() {
  const int file = memfd_create("malloc_stats", MFD_CLOEXEC);
  const int kept = dup(2);
  if (file >= 0 && kept >= 0 && dup2(file, 2) == 2) {
    calls_.print_stats();
    dup2(kept, 2);
    char text[1024] = {};
    Check(pread(file, text, sizeof text - 1, 0) > 0, "malloc_stats says nothing");
    Check(strstr(text, "hakmem: live blocks = ") != nullptr, "malloc_stats does not tell the live blocks");
  }
  if (kept >= 0) close(kept);
  if (file >= 0) close(file);
}

void OverrideEngine::Text(const uint8_t *record) {
  static char text[16384];  // of one thread
  memset(text, 0, sizeof text);
  FILE *stream = fmemopen(text, sizeof text, "w");
  if (stream == nullptr) return;
  const int result = calls_.info_text(record[1] % 2, stream);
  fclose(stream);
  Check(result == -(record[1] % 2), "malloc_info's result");
  Check((strstr(text, "</malloc>") != nullptr) == (record[1] % 2 == 0), "malloc_info's text");
  const int trimmed = calls_.trim(DecodeSize(record) % (1u << 20));
  Check(trimmed == 0 || trimmed == 1, "malloc_trim's result");
  if (record[1] % 8 == 2) Stats();
}

// The C functions with numbers.
void OverrideEngine::Tokens(const uint8_t *record) {
  const hak_test::TokenApi &api = hak_test::kTokenApis[record[7] % std::size(hak_test::kTokenApis)];
  const size_t size = DecodeSize(record) % (1u << 20);
  const size_t align = size_t{1} << (record[4] % 17);
  void *ptr = api.malloc(size);
  Expect(ptr, size, 16, "malloc with a number is misaligned");
  ptr = api.reallocarray(api.realloc(ptr, size + 1), 2, size + 1);
  Expect(ptr, 2 * size + 2, 16, "realloc with a number is misaligned");
  calls_.c.free(ptr);
  ptr = api.calloc(2, size);
  Check(ptr != nullptr && (size == 0 || (*static_cast<char *>(ptr) == 0 &&
                                         memcmp(ptr, static_cast<char *>(ptr) + 1, 2 * size - 1) == 0)),
        "calloc with a number is not zero");
  calls_.c.free(ptr);
  for (void *(*const call)(size_t, size_t) : {api.aligned_alloc, api.memalign}) {
    ptr = call(align, size);
    Expect(ptr, size, align, "aligned_alloc or memalign with a number is misaligned");
    calls_.c.free(ptr);
  }
  const int code = api.posix_memalign(&ptr, align < 8 ? 8 : align, size);
  Check(code == 0, "posix_memalign with a number fails");
  Expect(ptr, size, align, "posix_memalign with a number is misaligned");
  calls_.c.free(ptr);
  for (void *(*const call)(size_t) : {api.valloc, api.pvalloc}) {
    ptr = call(size);
    Expect(ptr, size, kPage, "valloc or pvalloc with a number is misaligned");
    calls_.c.free(ptr);
  }
}

void OverrideEngine::OtherNames(const uint8_t *record) {
  const size_t size = DecodeSize(record) % (1u << 20);
  switch (record[0] % 9) {
    case 8:
      return Tokens(record);
    case 0: {
      void *ptr = calls_.valloc(size);
      Expect(ptr, size, kPage, "valloc is misaligned");
      return calls_.cfree(ptr);
    }
    case 1: {
      void *ptr = calls_.pvalloc(size);
      Expect(ptr, (size + kPage - 1) / kPage * kPage, kPage, "pvalloc is misaligned");
      Check(calls_.pvalloc(SIZE_MAX - size) == nullptr, "pvalloc gives what nobody has");
      return calls_.c.free(ptr);
    }
    case 2: {
      void *ptr = calls_.libc_malloc(size);
      Expect(ptr, size, 16, "__libc_malloc is misaligned");
      ptr = calls_.libc_realloc(ptr, 2 * size + 1);
      const auto *bytes = static_cast<const unsigned char *>(ptr);
      // Each byte equals the one before it.
      Check(ptr != nullptr && (size == 0 || (bytes[0] == 1 && memcmp(bytes, bytes + 1, size - 1) == 0)),
            "__libc_realloc loses contents");
      Expect(ptr, 2 * size + 1, 16, "__libc_realloc is misaligned");
      return calls_.libc_free(ptr);
    }
    case 3: {
      auto *bytes = static_cast<unsigned char *>(calls_.libc_calloc(size + 1, 1));
      Check(bytes != nullptr && bytes[0] == 0 && memcmp(bytes, bytes + 1, size) == 0, "__libc_calloc is not zero");
      memset(bytes, 1, size + 1);
      return calls_.c.free(bytes);
    }
    case 4: {
      void *ptr = calls_.libc_memalign(64, size);
      Expect(ptr, size, 64, "__libc_memalign is misaligned");
      calls_.libc_free(ptr);
      for (void *(*const call)(size_t) : {calls_.libc_valloc, calls_.libc_pvalloc}) {
        ptr = call(size);
        Expect(ptr, size, kPage, "__libc_valloc or __libc_pvalloc is misaligned");
        calls_.libc_free(ptr);
      }
      return;
    }
    case 5:
      for (const int parameter : {M_MXFAST, M_MMAP_MAX, M_ARENA_MAX}) {
        Check(calls_.set_option(parameter, record[1]) == 1, "mallopt refuses a parameter of glibc");
      }
      Check(calls_.set_option(1000 + record[1], 0) == 0, "mallopt takes what is no parameter");
      return;
    case 6:
      return Info();
    default:
      return Text(record);
  }
}

// ---- The input ----------------------------------------------------------------------------------

void OverrideEngine::Run(const uint8_t *data, size_t size) {
  for (const hak_test::Violation &violation : heap_.Run(data, size)) {
    Fail(std::string(hak_test::OracleName(violation.oracle)) + ": " + violation.what);
  }
  Check(calls_.c.usable_size(nullptr) == 0, "malloc_usable_size of no block");
  const uint64_t before = Statistics().live_blocks;
  ForEachRecord(data, size, kHeapOpsMax, [this](const uint8_t *record) {
    if (record[6] % 2 == 0) {
      NewDelete(record);
    } else {
      OtherNames(record);
    }
  });
  Check(Statistics().live_blocks == before, "blocks are left over");
}

}  // namespace hak_fuzz
