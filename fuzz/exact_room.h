// SPDX-License-Identifier: Apache-2.0
//
// A buffer that is reused for every input of a fuzzer, and for AddressSanitizer has exactly the requested size each
// time: the bytes behind it are poisoned, and it begins where malloc's block begins. A new buffer from malloc for each
// use would be checked as well, but take most of a short input's time.
#ifndef HAKMEM_FUZZ_EXACT_ROOM_H_
#define HAKMEM_FUZZ_EXACT_ROOM_H_

#include <stddef.h>

#include <memory>

// Defined in builds with AddressSanitizer, even if the including file is built without it (.bazelrc).
extern "C" void __asan_poison_memory_region(const volatile void *start, size_t size) __attribute__((weak));
extern "C" void __asan_unpoison_memory_region(const volatile void *start, size_t size) __attribute__((weak));

namespace hak_fuzz {

// Called through variables: OSS-Fuzz counts calls of __asan by name, and refuses builds for other sanitizers that have
// any.
using RegionCall = void (*)(const volatile void *start, size_t size);
inline const volatile RegionCall poison_region = __asan_poison_memory_region;
inline const volatile RegionCall unpoison_region = __asan_unpoison_memory_region;

// For plain data: it is neither constructed nor destroyed, and keeps the contents of the previous use.
template <typename T>
class ExactRoom {
 public:
  // `most`: the largest usual number; a larger request allocates more room.
  explicit ExactRoom(size_t most) { Grow(most); }

  // Room for `count`, until the next call.
  T *Of(size_t count) {
    if (count > most_) Grow(count);
    const RegionCall poison = poison_region;
    if (poison != nullptr && count != count_) {
      const RegionCall unpoison = unpoison_region;
      unpoison(room_.get(), count * sizeof(T));
      if (count < count_) poison(room_.get() + count, (count_ - count) * sizeof(T));
      count_ = count;
    }
    return room_.get();
  }

 private:
  void Grow(size_t most) {
    room_.reset(new T[most]);  // malloc's memory is not poisoned
    most_ = most;
    count_ = most;
  }

  std::unique_ptr<T[]> room_;
  size_t most_ = 0;
  size_t count_ = 0;  // not poisoned
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_EXACT_ROOM_H_
