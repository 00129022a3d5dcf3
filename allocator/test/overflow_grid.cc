// SPDX-License-Identifier: Apache-2.0
//
// Impossible requests and invalid alignments. Each must return NULL and the exact code, must not change a live block,
// and must not change errno and *out if the rules say so. The wrapping products and the alignments from 1 << 62 on are
// the cases behind CVE-2021-22156 and CVE-2026-0861.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include <string>

#include "allocator/test/heap_model.h"

namespace hak_test {
namespace {

class Grid {
 public:
  Grid(HeapModel *model, const Block &live, size_t part, size_t parts)
      : model_(model), api_(model->api()), live_(live), part_(part), parts_(parts) {}

  void Run() {
    for (const unsigned below :
         {0U, 1U, 7U, 8U, 15U, 16U, 17U, 31U, 32U, 63U, 4095U, 4096U, 65535U, 65536U, 2097152U}) {
      HugeSize(SIZE_MAX - below);
      HugeSize(static_cast<size_t>(PTRDIFF_MAX) - below);
    }
    for (const unsigned above : {1U, 2U, 15U, 16U, 17U, 4095U, 4096U, 65536U, 2097152U}) {
      HugeSize(static_cast<size_t>(PTRDIFF_MAX) + above);
    }
    Products();
    Alignments();
    model_->Audit(live_);
  }

 private:
  // A call with two of its arguments, formatted only for a message.
  struct Name {
    const char *call;
    size_t a;
    size_t b;
    std::string operator+(const std::string &more) const {
      return std::string(call) + "(" + std::to_string(a) + ", " + std::to_string(b) + ")" + more;
    }
  };

  bool InThisPart() { return number_++ % parts_ == part_; }

  void Refused(const Name &call, const void *p, int error, int wanted) {
    if (p != nullptr) model_->Report(Oracle::kOverflow, call + " gave " + Hex(p));
    if (error != wanted) {
      model_->Report(Oracle::kErrno, call + ": errno " + std::to_string(error) + " for " + std::to_string(wanted));
    }
  }

  void PosixRefused(size_t alignment, size_t size, int wanted) {
    if (!InThisPart()) return;
    void *const untouched = &model_;
    void *out = untouched;
    errno = kErrnoBefore;
    const int code = api_.posix_memalign(&out, alignment, size);
    const int error = errno;
    const Name call{"posix_memalign", alignment, size};
    if (code == 0) {
      model_->Report(Oracle::kOverflow, call + " succeeded");
      return;
    }
    if (code != wanted) {
      model_->Report(Oracle::kErrno, call + " returned " + std::to_string(code) + " for " + std::to_string(wanted));
    }
    if (out != untouched) model_->Report(Oracle::kErrno, call + " failed and wrote *out");
    if (error != kErrnoBefore) model_->Report(Oracle::kErrno, call + " set errno");
  }

  template <typename Call>
  void Expect(const Name &name, int wanted, Call call) {
    if (!InThisPart()) return;
    errno = kErrnoBefore;
    const void *p = call();
    const int error = errno;
    Refused(name, p, error, wanted);
  }

  void HugeSize(size_t n) {
    Expect(Name{"malloc", n, 0}, ENOMEM, [&] { return api_.malloc(n); });
    Expect(Name{"zalloc", n, 0}, ENOMEM, [&] { return api_.zalloc(n); });
    Expect(Name{"calloc", n, 1}, ENOMEM, [&] { return api_.calloc(n, 1); });
    Expect(Name{"calloc", 1, n}, ENOMEM, [&] { return api_.calloc(1, n); });
    Expect(Name{"realloc NULL", 0, n}, ENOMEM, [&] { return api_.realloc(nullptr, n); });
    Expect(Name{"realloc", 0, n}, ENOMEM, [&] { return api_.realloc(live_.p, n); });
    Expect(Name{"reallocarray", n, 1}, ENOMEM, [&] { return api_.reallocarray(live_.p, n, 1); });
    Expect(Name{"reallocarray", 1, n}, ENOMEM, [&] { return api_.reallocarray(live_.p, 1, n); });
    for (const size_t alignment : {size_t{8}, size_t{16}, size_t{64}, size_t{4096}, size_t{1} << 21, size_t{1} << 40}) {
      Expect(Name{"aligned_alloc", alignment, n}, ENOMEM, [&] { return api_.aligned_alloc(alignment, n); });
      Expect(Name{"aligned_calloc", alignment, n}, ENOMEM, [&] { return api_.aligned_calloc(alignment, n, 1); });
      Expect(Name{"aligned_realloc", alignment, n}, ENOMEM,
             [&] { return api_.aligned_realloc(live_.p, alignment, n); });
      Expect(Name{"aligned_realloc NULL", alignment, n}, ENOMEM,
             [&] { return api_.aligned_realloc(nullptr, alignment, n); });
      Expect(Name{"memalign", alignment, n}, ENOMEM, [&] { return api_.memalign(alignment, n); });
      PosixRefused(alignment, n, ENOMEM);
    }
    // There is no room to grow in place: NULL, and this call does not change errno.
    Expect(Name{"realloc_in_place", 0, n}, kErrnoBefore, [&] { return api_.realloc_in_place(live_.p, n); });
    if (n > static_cast<size_t>(PTRDIFF_MAX) && api_.good_size(n) != 0) {
      model_->Report(Oracle::kOverflow, Name{"good_size", n, 0} + " is not 0");
    }
  }

  void Products() {
    const size_t half = SIZE_MAX / 2 + 1;  // 1 << 63
    const struct {
      size_t a;
      size_t b;
    } products[] = {
        {size_t{1} << 32, size_t{1} << 32},             // wraps to 0
        {half, 2},                                      // wraps to 0
        {SIZE_MAX, 2},                                  // wraps to SIZE_MAX - 1
        {SIZE_MAX, SIZE_MAX},                           // wraps to 1
        {SIZE_MAX / 16 + 2, 16},                        // wraps to 16
        {SIZE_MAX / 3 + 2, 3},                          // wraps to 3
        {SIZE_MAX / 24 + 1, 24},                        // wraps to a small number
        {(size_t{1} << 32) + 1, size_t{1} << 32},       // wraps to 1 << 32
        {(size_t{1} << 33) + 1, (size_t{1} << 31) + 1}  // wraps to about 10 GiB
    };
    for (const auto &[a, b] : products) {
      Expect(Name{"calloc", a, b}, ENOMEM, [&, x = a, y = b] { return api_.calloc(x, y); });
      Expect(Name{"calloc", b, a}, ENOMEM, [&, x = a, y = b] { return api_.calloc(y, x); });
      for (const size_t alignment : {size_t{16}, size_t{4096}}) {
        Expect(Name{"aligned_calloc", a, b}, ENOMEM,
               [&, x = a, y = b] { return api_.aligned_calloc(alignment, x, y); });
        Expect(Name{"aligned_calloc", b, a}, ENOMEM,
               [&, x = a, y = b] { return api_.aligned_calloc(alignment, y, x); });
      }
      Expect(Name{"reallocarray", a, b}, ENOMEM, [&, x = a, y = b] { return api_.reallocarray(live_.p, x, y); });
      Expect(Name{"reallocarray", b, a}, ENOMEM, [&, x = a, y = b] { return api_.reallocarray(live_.p, y, x); });
      Expect(Name{"reallocarray NULL", a, b}, ENOMEM, [&, x = a, y = b] { return api_.reallocarray(nullptr, x, y); });
    }
  }

  void Alignments() {
    // Powers of two that are larger than any address space.
    for (const size_t alignment : {size_t{1} << 61, size_t{1} << 62, size_t{1} << 63}) {
      for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{4096}, size_t{1} << 21, SIZE_MAX / 2}) {
        Expect(Name{"aligned_alloc", alignment, size}, ENOMEM, [&] { return api_.aligned_alloc(alignment, size); });
        Expect(Name{"aligned_calloc", alignment, size}, ENOMEM,
               [&] { return api_.aligned_calloc(alignment, 1, size); });
        if (size != 0) {  // 0 frees the block
          Expect(Name{"aligned_realloc", alignment, size}, ENOMEM,
                 [&] { return api_.aligned_realloc(live_.p, alignment, size); });
        }
        Expect(Name{"memalign", alignment, size}, ENOMEM, [&] { return api_.memalign(alignment, size); });
        PosixRefused(alignment, size, ENOMEM);
      }
    }
    // Not powers of two.
    for (const size_t alignment : {size_t{0}, size_t{3}, size_t{12}, size_t{24}, size_t{48}, size_t{1000}, size_t{4097},
                                   (size_t{1} << 21) + 1, (size_t{1} << 62) + 1, (size_t{1} << 63) + 1, SIZE_MAX}) {
      for (const size_t size : {size_t{0}, size_t{1}, size_t{48}, size_t{1} << 21, SIZE_MAX}) {
        Expect(Name{"aligned_alloc", alignment, size}, EINVAL, [&] { return api_.aligned_alloc(alignment, size); });
        Expect(Name{"aligned_calloc", alignment, size}, EINVAL,
               [&] { return api_.aligned_calloc(alignment, size, 2); });
        Expect(Name{"aligned_realloc", alignment, size}, EINVAL,
               [&] { return api_.aligned_realloc(live_.p, alignment, size); });
        PosixRefused(alignment, size, EINVAL);
      }
    }
    // Powers of two below sizeof(void *) are invalid for posix_memalign only.
    for (const unsigned alignment : {1U, 2U, 4U}) PosixRefused(alignment, 64, EINVAL);
    for (const unsigned alignment : {1U, 2U, 4U, 8U}) {
      Block block;
      if (model_->AlignedAlloc(alignment, 40, &block)) model_->Free(block);
    }
    // memalign rounds up to a power of two, and above the largest one there is none.
    for (const unsigned alignment : {0U, 3U, 24U, 100U, 4097U}) {
      Block block;
      if (model_->Memalign(alignment, 100, &block)) model_->Free(block);
    }
    for (const size_t alignment : {(size_t{1} << 63) + 1, SIZE_MAX}) {
      errno = kErrnoBefore;
      const void *p = api_.memalign(alignment, 1);
      const int error = errno;
      Refused(Name{"memalign", alignment, 1}, p, error, error == EINVAL ? EINVAL : ENOMEM);
    }
  }

  HeapModel *model_;
  const AllocatorApi &api_;
  const Block &live_;
  const size_t part_;
  const size_t parts_;
  size_t number_ = 0;  // how many requests there were so far
};

}  // namespace

void HeapModel::CheckOverflowGrid(const Block &live, size_t part, size_t parts) { Grid(this, live, part, parts).Run(); }

}  // namespace hak_test
