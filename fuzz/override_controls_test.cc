// SPDX-License-Identifier: Apache-2.0
//
// The engine of override_fuzzer with planted bugs, one at a time: it must notice each.
#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <new>
#include <string>

#include "fuzz/controls.h"
#include "fuzz/override_engine.h"

namespace hak_fuzz {
namespace {

using testing::HasSubstr;

Engine EngineWith(const OverrideCalls &calls) {
  return [&](const uint8_t *data, size_t size) {
    static OverrideEngine engine(calls);
    engine.Run(data, size);
  };
}

void ExpectOverride(const OverrideCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds(EngineWith(calls), what);
}

bool IsHuge(size_t size) { return size > static_cast<size_t>(PTRDIFF_MAX); }

TEST(OverrideControl, NothingPlanted) { ExpectOverride({}, "nothing"); }

// ---- C names ------------------------------------------------------------------------------------

TEST(OverrideControl, UsableSizeOneTooLarge) {
  OverrideCalls calls;
  calls.c.usable_size = [](const void *ptr) { return ptr == nullptr ? 0 : hak_usable_size(ptr) + 1; };
  // A block that is filled overflows by a byte, which builds with canaries notice when it is freed.
  ExpectFindsOrEnds(EngineWith(calls), testing::Ne("nothing"));
}

// The model cannot notice this, because it does not know blocks of operator new.
TEST(OverrideControl, UsableSizeOfNewOneTooLarge) {
  static const void *block;
  OverrideCalls calls;
  calls.create = [](const NewRequest &request) {
    void *ptr = CallNew(request);
    block = ptr;
    return ptr;
  };
  calls.c.usable_size = [](const void *ptr) {
    return ptr != nullptr && ptr == block ? hak_usable_size(ptr) + 1 : hak_usable_size(ptr);
  };
  calls.destroy = [](const NewRequest &request, void *ptr, unsigned how) {
    block = nullptr;
    CallDelete(request, ptr, how);
  };
  ExpectOverride(calls, "malloc_usable_size tells another size");
}

TEST(OverrideControl, UsableSizeOfNothing) {
  OverrideCalls calls;
  calls.c.usable_size = [](const void *ptr) { return ptr == nullptr ? 16 : hak_usable_size(ptr); };
  ExpectOverride(calls, "malloc_usable_size of no block");
}

TEST(OverrideControl, CallocIsNotZero) {
  OverrideCalls calls;
  calls.c.calloc = [](size_t count, size_t size) {
    void *ptr = hak_renamed_calloc(count, size);
    if (ptr != nullptr && count * size > 0) static_cast<unsigned char *>(ptr)[count * size / 2] = 1;
    return ptr;
  };
  ExpectOverride(calls, HasSubstr("not zero"));
}

TEST(OverrideControl, PosixMemalignSetsErrno) {
  OverrideCalls calls;
  calls.c.posix_memalign = [](void **out, size_t alignment, size_t size) {
    const int code = hak_renamed_posix_memalign(out, alignment, size);
    if (code != 0) errno = code;
    return code;
  };
  ExpectOverride(calls, HasSubstr("errno: "));
}

TEST(OverrideControl, PosixMemalignTouchesOutOnFailure) {
  OverrideCalls calls;
  calls.c.posix_memalign = [](void **out, size_t alignment, size_t size) {
    const int code = hak_renamed_posix_memalign(out, alignment, size);
    if (code != 0) *out = nullptr;
    return code;
  };
  ExpectOverride(calls, HasSubstr("errno: "));
}

TEST(OverrideControl, ReallocLosesTheTail) {
  OverrideCalls calls;
  calls.c.realloc = [](void *old, size_t size) {
    const size_t kept = old == nullptr ? 0 : hak_usable_size(old);
    auto *bytes = static_cast<unsigned char *>(hak_renamed_realloc(old, size));
    const size_t last = kept < size ? kept : size;
    if (bytes != nullptr && last > 0) memset(bytes + last / 2, 0, last - last / 2);
    return static_cast<void *>(bytes);
  };
  ExpectOverride(calls, HasSubstr("realloc: "));
}

TEST(OverrideControl, ReallocarrayDoesNotCheckOverflow) {
  OverrideCalls calls;
  calls.c.reallocarray = [](void *old, size_t count, size_t size) {
    void *now = hak_renamed_reallocarray(old, count, size);
    return now == nullptr && count != 0 && size > SIZE_MAX / count ? hak_renamed_malloc(count * size % 4096) : now;
  };
  ExpectOverride(calls, HasSubstr("overflow"));
}

TEST(OverrideControl, AlignedAllocTakesAnyAlignment) {
  OverrideCalls calls;
  calls.c.aligned_alloc = [](size_t alignment, size_t size) {
    return (alignment & (alignment - 1)) != 0 ? hak_renamed_malloc(size) : hak_renamed_aligned_alloc(alignment, size);
  };
  ExpectOverride(calls, HasSubstr("overflow"));
}

TEST(OverrideControl, FreeSetsErrno) {
  OverrideCalls calls;
  calls.c.free = [](void *ptr) {
    hak_renamed_free(ptr);
    errno = 0;
  };
  ExpectOverride(calls, HasSubstr("errno: "));
}

// ---- operator new and delete --------------------------------------------------------------------

TEST(OverrideControl, AlignedNewIsMisaligned) {
  OverrideCalls calls;
  calls.create = [](const NewRequest &request) {
    NewRequest other = request;
    if (other.Aligned() && other.align > 1024) other.align = 1024;
    return CallNew(other);
  };
  ExpectOverride(calls, "operator new is misaligned");
}

TEST(OverrideControl, NewGivesTooLittle) {
  OverrideCalls calls;
  calls.create = [](const NewRequest &request) {
    NewRequest other = request;
    if (other.size > 1 && !IsHuge(other.size)) --other.size;
    return CallNew(other);
  };
  ExpectOverride(calls, "operator new gives too little");
}

TEST(OverrideControl, NothrowThrows) {
  OverrideCalls calls;
  calls.create = [](const NewRequest &request) {
    void *ptr = CallNew(request);
    if (ptr == nullptr) throw std::bad_alloc();
    return ptr;
  };
  ExpectOverride(calls, "operator new throws when it must not, or does not when it must");
}

TEST(OverrideControl, HandlerIsNotAsked) {
  OverrideCalls calls;
  calls.create = [](const NewRequest &request) {
    std::set_new_handler(nullptr);
    return CallNew(request);
  };
  ExpectOverride(calls, "the new handler was not called as often as it asked for");
}

TEST(OverrideControl, SizedArrayDeleteForgets) {
  OverrideCalls calls;
  calls.destroy = [](const NewRequest &request, void *ptr, unsigned how) {
    if (!request.Array() || request.Aligned() || how % 4 != 1) CallDelete(request, ptr, how);
  };
  ExpectOverride(calls, "blocks are left over");
}

// ---- The other names ----------------------------------------------------------------------------

TEST(OverrideControl, CfreeDoesNothing) {
  OverrideCalls calls;
  calls.cfree = [](void *) {};
  ExpectOverride(calls, "blocks are left over");
}

TEST(OverrideControl, PvallocRoundsDown) {
  OverrideCalls calls;
  calls.pvalloc = [](size_t size) { return IsHuge(size) ? nullptr : hak_renamed_valloc(size / 4096 * 4096); };
  ExpectOverride(calls, "a block is smaller than asked for");
}

TEST(OverrideControl, LibcVallocOfLessThanAPage) {
  OverrideCalls calls;
  calls.libc_valloc = [](size_t size) { return hak_renamed___libc_memalign(64, size); };
  ExpectOverride(calls, "__libc_valloc or __libc_pvalloc is misaligned");
}

TEST(OverrideControl, LibcReallocLoses) {
  OverrideCalls calls;
  calls.libc_realloc = [](void *ptr, size_t size) {
    void *now = hak_renamed___libc_realloc(ptr, size);
    if (now != nullptr && size > 2) static_cast<unsigned char *>(now)[(size - 1) / 2 - 1] ^= 1;
    return now;
  };
  ExpectOverride(calls, "__libc_realloc loses contents");
}

TEST(OverrideControl, LibcCallocIsNotZero) {
  OverrideCalls calls;
  calls.libc_calloc = [](size_t count, size_t size) {
    void *ptr = hak_renamed___libc_calloc(count, size);
    if (ptr != nullptr && count > 2) static_cast<unsigned char *>(ptr)[count / 2] = 1;
    return ptr;
  };
  ExpectOverride(calls, "__libc_calloc is not zero");
}

TEST(OverrideControl, MalloptTakesAnything) {
  OverrideCalls calls;
  calls.set_option = [](int, int) { return 1; };
  ExpectOverride(calls, "mallopt takes what is no parameter");
}

#if __GLIBC_PREREQ(2, 33)
TEST(OverrideControl, MallinfoCountsCachedBlocks) {
  OverrideCalls calls;
  calls.wide_info = [] {
    struct mallinfo2 info = hak_renamed_mallinfo2();
    info.uordblks += info.fsmblks;
    return info;
  };
  ExpectOverride(calls, testing::AnyOf(std::string("mallinfo2 differs from the statistics"),
                                       std::string("mallinfo2: in use and free are not the arena")));
}
#endif

TEST(OverrideControl, MallocInfoTakesAnyOption) {
  OverrideCalls calls;
  calls.info_text = [](int, FILE *stream) { return hak_renamed_malloc_info(0, stream); };
  ExpectOverride(calls, "malloc_info's result");
}

TEST(OverrideControl, MallocStatsSaysNothing) {
  OverrideCalls calls;
  calls.print_stats = [] {};
  ExpectOverride(calls, "malloc_stats says nothing");
}

}  // namespace
}  // namespace hak_fuzz
