// SPDX-License-Identifier: Apache-2.0
//
// Inputs as sequences of records of kRecord bytes (op_mutator.h), one step each.
#ifndef HAKMEM_FUZZ_RECORD_H_
#define HAKMEM_FUZZ_RECORD_H_

#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <array>

#include "fuzz/op_mutator.h"

namespace hak_fuzz {

// Two bytes, little endian.
inline uint32_t Pair(const uint8_t *bytes) { return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8; }

// Four bytes, little endian.
inline uint32_t Four(const uint8_t *bytes) { return Pair(bytes) | Pair(bytes + 2) << 16; }

// Calls `step` with each complete record, at most `most` of them: long inputs find nothing that several short ones do
// not.
template <typename Step>
void ForEachRecord(const uint8_t *data, size_t size, size_t most, const Step &step) {
  const size_t count = std::min(size / kRecord, most);
  for (size_t i = 0; i < count; ++i) step(data + i * kRecord);
}

// A number that depends on every byte of the input.
inline uint64_t Fingerprint(const uint8_t *data, size_t size) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 0x100000001b3U;
  return hash ^ (hash >> 31);
}

// Selects the inputs for checks that are too expensive for each: one in `every`, by its bytes, so that an input that
// fails in one process also fails in another. Inputs that were selected lately are not selected again: they add
// coverage, so fuzzers run them again and again.
class OneIn {
 public:
  explicit OneIn(uint64_t every) : every_(every) {}

  bool Chooses(const uint8_t *data, size_t size) {
    if (every_ == 1) return true;
    const uint64_t fingerprint = Fingerprint(data, size);
    if (fingerprint % every_ != 0) return false;
    uint64_t &last = lately_[fingerprint / every_ % lately_.size()];
    const bool again = last == fingerprint;
    last = fingerprint;
    return !again;
  }

 private:
  uint64_t every_;
  std::array<uint64_t, 4096> lately_ = {};  // fingerprints
};

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_RECORD_H_
