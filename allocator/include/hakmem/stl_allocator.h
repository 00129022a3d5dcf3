// SPDX-License-Identifier: Apache-2.0
//
// hakmem as an allocator of the C++ library's containers (C++17 [allocator.requirements]), beside or instead of the
// program's malloc:
//
//   std::vector<int, hakmem::StlAllocator<int>> numbers;
//   auto shared = std::allocate_shared<Thing>(hakmem::StlAllocator<Thing>(), arguments);
//
// Header-only, C++11 on; in Bazel @hakmem//allocator:stl_allocator.
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

// Holds nothing: all objects of all these types compare equal, so containers exchange and move their contents freely,
// and what one allocated any other may deallocate, in any thread. Over-aligned types get the alignment they ask for.
template <typename T>
class StlAllocator {
 public:
  using value_type = T;
  using size_type = size_t;
  using difference_type = ptrdiff_t;
  using is_always_equal = std::true_type;
  // Equal allocators need not be handed on; saying that they may be makes it plain that nothing is ever copied.
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  constexpr StlAllocator() noexcept = default;
  template <typename U>
  constexpr StlAllocator(const StlAllocator<U> & /*other*/) noexcept {}  // implicit, as containers rebind it

  // Room for `count` objects at a multiple of alignof(T) and of 16 bytes; 0 gives a block of its own. Throws
  // std::bad_array_new_length when the objects are over PTRDIFF_MAX bytes, std::bad_alloc with ENOMEM in errno when
  // memory cannot be had; a build without exceptions calls abort() instead. The new handler is not called.
  T *allocate(size_t count) {
    if (count > static_cast<size_t>(PTRDIFF_MAX) / sizeof(T)) FailLength();
    void *const block = kOverAligned ? hak_aligned_alloc(alignof(T), count * sizeof(T)) : hak_malloc(count * sizeof(T));
    if (block == nullptr) FailMemory();
    return static_cast<T *>(block);
  }

  // `objects` from allocate(count), of any StlAllocator<T>; OBSERVE and HARDENED builds check `count`. errno stays as
  // it was.
  void deallocate(T *objects, size_t count) noexcept {
    if (kOverAligned) {
      hak_free_aligned_sized(objects, alignof(T), count * sizeof(T));
    } else {
      hak_free_sized(objects, count * sizeof(T));
    }
  }

 private:
  // hak_malloc aligns to 16 anyhow.
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
