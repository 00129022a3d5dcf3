// SPDX-License-Identifier: Apache-2.0
//
// Tables of call frame information made for a test, between pages that nobody can read.
#ifndef HAKMEM_PROF_TEST_CFI_IMAGE_H_
#define HAKMEM_PROF_TEST_CFI_IMAGE_H_

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <initializer_list>
#include <vector>

#include "allocator/prof/cfi.h"

namespace hak_cfi_test {

using Bytes = std::vector<uint8_t>;

inline void Add(Bytes *to, uint64_t number, size_t size) {
  for (size_t i = 0; i < size; i++) to->push_back(static_cast<uint8_t>(number >> (8 * i)));
}
inline Bytes operator+(Bytes a, const Bytes &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Bytes whose first and last one lie beside unreadable pages, as far as both is possible: the end always does.
class ClosedIn {
 public:
  explicit ClosedIn(const Bytes &bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t pages = (bytes.size() + page - 1) / page * page;
    size_ = pages + 2 * page;
    all_ = static_cast<uint8_t *>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pages != 0) mprotect(all_ + page, pages, PROT_READ | PROT_WRITE);
    high_ = all_ + page + pages;
    low_ = high_ - bytes.size();
    if (!bytes.empty()) memcpy(low_, bytes.data(), bytes.size());
  }
  ~ClosedIn() { munmap(all_, size_); }
  ClosedIn(const ClosedIn &) = delete;
  ClosedIn &operator=(const ClosedIn &) = delete;
  uint8_t *low() const { return low_; }
  uint8_t *high() const { return high_; }

 private:
  uint8_t *all_;
  size_t size_;
  uint8_t *low_;
  uint8_t *high_;
};

// The tables of one function of 256 bytes, which begins kFunction bytes behind the index.
constexpr uint64_t kFunction = 4096;
constexpr uint64_t kFunctionBytes = 256;

struct Parts {
  Bytes letters = {'z', 'R', 0};
  Bytes extra = {0x1b};  // for the letters: addresses count from where they stand, in 32 bits
  Bytes common;          // the program of the common part
  Bytes program;         // that of the function
  uint8_t version = 1;
  uint8_t code_factor = 1;
  uint8_t data_factor = 0x78;  // -8
  uint8_t return_register = HAK_CFI_RETURN == 6 ? 16 : 30;
};

// The index is at the beginning.
inline Bytes Build(const Parts &parts) {
  Bytes body;
  Add(&body, 0, 4);
  body.push_back(parts.version);
  body = body + parts.letters;
  if (parts.version == 4) body = body + Bytes{8, 0};
  body = body + Bytes{parts.code_factor, parts.data_factor, parts.return_register};
  if (parts.letters[0] == 'z') {
    body.push_back(static_cast<uint8_t>(parts.extra.size()));
    body = body + parts.extra;
  }
  body = body + parts.common;
  while (body.size() % 8 != 4) body.push_back(0);
  Bytes all = {1, 0x1b, 0x03, 0x3b};
  Add(&all, 16, 4);
  Add(&all, 1, 4);
  Add(&all, kFunction, 4);
  const size_t common_at = 20;
  const size_t entry_at = common_at + 4 + body.size();
  Add(&all, entry_at, 4);
  Add(&all, body.size(), 4);
  all = all + body;
  Bytes entry;
  Add(&entry, entry_at + 4 - common_at, 4);
  Add(&entry, kFunction - (entry_at + 8), 4);
  Add(&entry, kFunctionBytes, 4);
  if (parts.letters[0] == 'z') entry.push_back(0);
  entry = entry + parts.program;
  while (entry.size() % 8 != 4) entry.push_back(0);
  Add(&all, entry.size(), 4);
  return all + entry;
}

class Image {
 public:
  explicit Image(const Bytes &bytes) : memory_(bytes) {}
  hak_cfi_tables tables() const { return {.low = memory_.low(), .high = memory_.high(), .index = memory_.low()}; }
  // The pc of that byte of the function.
  uintptr_t pc(uint64_t byte) const { return reinterpret_cast<uintptr_t>(memory_.low()) + kFunction + byte; }
  // False: there is no rule.
  bool Rule(uint64_t byte, hak_cfi_rule *rule) const {
    const hak_cfi_tables all = tables();
    const uint8_t *entry = hak_cfi_entry(&all, pc(byte));
    return entry != nullptr && hak_cfi_rule_of(&all, entry, pc(byte), rule);
  }

 private:
  ClosedIn memory_;
};

}  // namespace hak_cfi_test

#endif  // HAKMEM_PROF_TEST_CFI_IMAGE_H_
