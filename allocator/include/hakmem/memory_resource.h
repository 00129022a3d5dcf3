// SPDX-License-Identifier: Apache-2.0
//
// hakmem as a std::pmr::memory_resource (C++17 [mem.res.class]), beside or instead of the program's malloc:
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

// Sizes and alignments are in bytes; an alignment is a power of two. All objects of the class are one and the same:
// they compare equal, and what one allocated any other may deallocate. Any thread may use any of them at any time, and
// a block may be deallocated by another thread than the one that allocated it.
//
// allocate(bytes, alignment)
//   A block of at least `bytes` bytes at a multiple of `alignment` and of 16. 0 bytes give a block of their own. Throws
//   std::bad_alloc, and leaves ENOMEM in errno, when memory cannot be had or `bytes` is over PTRDIFF_MAX; a build
//   without exceptions calls abort() instead. The new handler is not called.
// deallocate(block, bytes, alignment)
//   With the two values that the block was allocated with; OBSERVE and HARDENED builds check them. errno stays as it
//   was.
class MemoryResource final : public std::pmr::memory_resource {
 private:
  // What hak_malloc gives anyhow.
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
    return false;  // the type cannot be asked for; false is always safe
#endif
  }
};

// The resource of the whole process. It is never destroyed, so objects with static storage may use it in their
// destructors.
inline std::pmr::memory_resource *hakmem_resource() noexcept {
  // Only the storage is static, and so nothing of it ends with the process.
  alignas(MemoryResource) static unsigned char storage[sizeof(MemoryResource)];
  static std::pmr::memory_resource *const resource = new (static_cast<void *>(storage)) MemoryResource;
  return resource;
}

}  // namespace hakmem

#endif  // HAKMEM_MEMORY_RESOURCE_H_
