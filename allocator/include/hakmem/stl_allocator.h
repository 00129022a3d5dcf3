// SPDX-License-Identifier: Apache-2.0
//
// hakmem as an allocator for the C++ library's containers (C++17 [allocator.requirements]). It works beside any malloc
// and also when hakmem is the program's malloc:
//
//   std::vector<int, hakmem::StlAllocator<int>> numbers;
//   auto shared = std::allocate_shared<Thing>(hakmem::StlAllocator<Thing>(), arguments);
//
// Header-only, C++11 or later; in Bazel @hakmem//allocator:stl_allocator.
#ifndef HAKMEM_STL_ALLOCATOR_H_
#define HAKMEM_STL_ALLOCATOR_H_

#include <hakmem/hakmem.h>
#include <stddef.h>
#include <stdint.h>

#include <new>
#include <type_traits>
#if !defined(__cpp_exceptions)
#include <stdlib.h>
#endif

namespace hakmem {

// A stateless allocator. All objects of all these types compare equal, so containers can swap and move their contents,
// and any object can deallocate what another allocated, in any thread. Over-aligned types get their alignment.
template <typename T>
class StlAllocator {
 public:
  using value_type = T;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using is_always_equal = std::true_type;
  // Propagation changes nothing, since all allocators are equal; declaring it lets containers skip element-wise copies.
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  constexpr StlAllocator() noexcept = default;
  template <typename U>
  constexpr StlAllocator(const StlAllocator<U> & /*other*/) noexcept {}  // implicit, as containers rebind it

  // Returns memory for `count` objects at a multiple of alignof(T) and of 16; `count` 0 gives a unique block. Throws
  // std::bad_array_new_length when the objects need more than PTRDIFF_MAX bytes, and std::bad_alloc, with errno set to
  // ENOMEM, when memory runs out; a build without exceptions calls abort() instead. It does not call the new handler.
  T *allocate(size_t count) {
    if (count > static_cast<size_t>(PTRDIFF_MAX) / sizeof(T)) FailLength();
    void *const block = kOverAligned ? hak_aligned_alloc(alignof(T), count * sizeof(T)) : hak_malloc(count * sizeof(T));
    if (block == nullptr) FailMemory();
    return static_cast<T *>(block);
  }

  // Frees `objects`, which any StlAllocator<T> returned from allocate(count); OBSERVE and HARDENED builds check
  // `count`. Preserves errno.
  void deallocate(T *objects, size_t count) noexcept {
    if (kOverAligned) {
      hak_free_aligned_sized(objects, alignof(T), count * sizeof(T));
    } else {
      hak_free_sized(objects, count * sizeof(T));
    }
  }

 private:
  // hak_malloc always aligns to 16.
  static constexpr bool kOverAligned = alignof(T) > 16;

  [[noreturn]] static void FailLength() {
#if defined(__cpp_exceptions)
    throw std::bad_array_new_length();
#else
    abort();
#endif
  }

  [[noreturn]] static void FailMemory() {
#if defined(__cpp_exceptions)
    throw std::bad_alloc();
#else
    abort();
#endif
  }
};

template <typename T, typename U>
constexpr bool operator==(const StlAllocator<T> & /*a*/, const StlAllocator<U> & /*b*/) noexcept {
  return true;
}

template <typename T, typename U>
constexpr bool operator!=(const StlAllocator<T> & /*a*/, const StlAllocator<U> & /*b*/) noexcept {
  return false;
}

}  // namespace hakmem

#endif  // HAKMEM_STL_ALLOCATOR_H_
