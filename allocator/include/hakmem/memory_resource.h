// SPDX-License-Identifier: Apache-2.0
//
// hakmem as a std::pmr::memory_resource (C++17 [mem.res.class]). It works beside any malloc and also when hakmem is the
// program's malloc:
//
//   std::pmr::vector<int> numbers(hakmem::hakmem_resource());
//   std::pmr::set_default_resource(hakmem::hakmem_resource());
//
// Header-only; in Bazel @hakmem//allocator:memory_resource.
#ifndef HAKMEM_MEMORY_RESOURCE_H_
#define HAKMEM_MEMORY_RESOURCE_H_

#include <hakmem/hakmem.h>
#include <stddef.h>

#include <memory_resource>
#include <new>
#if !defined(__cpp_exceptions)
#include <stdlib.h>
#endif

namespace hakmem {

// Sizes and alignments are in bytes; an alignment is a power of two. All objects of the class are interchangeable: they
// compare equal, and any of them can deallocate what another allocated. The class is thread-safe, and any thread may
// deallocate a block, whichever thread allocated it.
//
// allocate(bytes, alignment)
//   Returns a block of at least `bytes` bytes at a multiple of `alignment` and of 16. 0 bytes give a unique block. When
//   memory runs out or `bytes` is over PTRDIFF_MAX, it throws std::bad_alloc and sets errno to ENOMEM; a build without
//   exceptions calls abort() instead. It does not call the new handler.
// deallocate(block, bytes, alignment)
//   Takes the size and alignment that the block was allocated with; OBSERVE and HARDENED builds check them. Preserves
//   errno.
class MemoryResource final : public std::pmr::memory_resource {
 private:
  // The alignment that hak_malloc always gives.
  static constexpr size_t kEveryAlignment = 16;

  void *do_allocate(size_t bytes, size_t alignment) override {
    void *const block = alignment <= kEveryAlignment ? hak_malloc(bytes) : hak_aligned_alloc(alignment, bytes);
    if (block == nullptr) {
#if defined(__cpp_exceptions)
      throw std::bad_alloc();
#else
      abort();
#endif
    }
    return block;
  }

  void do_deallocate(void *block, size_t bytes, size_t alignment) override {
    if (alignment <= kEveryAlignment) {
      hak_free_sized(block, bytes);
    } else {
      hak_free_aligned_sized(block, alignment, bytes);
    }
  }

  bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override {
    if (this == &other) return true;
#if defined(__cpp_rtti)
    return dynamic_cast<const MemoryResource *>(&other) != nullptr;
#else
    return false;  // without RTTI the type is unknown; false is always safe
#endif
  }
};

// Returns the one resource of the process. It is never destroyed, so objects with static storage may use it in their
// destructors.
inline std::pmr::memory_resource *hakmem_resource() noexcept {
  // Only the storage is static, so no destructor runs at exit.
  alignas(MemoryResource) static unsigned char storage[sizeof(MemoryResource)];
  static std::pmr::memory_resource *const resource = new (static_cast<void *>(storage)) MemoryResource;
  return resource;
}

}  // namespace hakmem

#endif  // HAKMEM_MEMORY_RESOURCE_H_
