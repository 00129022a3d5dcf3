// SPDX-License-Identifier: Apache-2.0
//
// What a fuzz target and the program that drives it know of each other: the interface of libFuzzer
// (https://llvm.org/docs/LibFuzzer.html), which other fuzzing engines implement too.
#ifndef HAKMEM_FUZZ_FUZZ_TARGET_H_
#define HAKMEM_FUZZ_FUZZ_TARGET_H_

#include <stddef.h>
#include <stdint.h>

#include <stdexcept>
#include <string>

extern "C" {
// The target: runs one input. Must give 0, and must leave nothing behind that the next input could notice.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Optional, by the target: changes an input in place, and makes one of two; each gives the new size.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2, size_t size2, uint8_t *out,
                                 size_t max_out_size, unsigned seed);

// By the driver: its own mutation of some bytes.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
}

namespace hak_fuzz {

// Ends the process with `what` on stderr. A target neither prints nor exits by itself: nobody catches this exception,
// so the C++ runtime tells what it says and aborts, with the stack as it was here.
[[noreturn]] inline void Fail(const std::string &what) { throw std::logic_error(what); }

// Not inlined: the string that it makes is no part of the frame of those whose checks pass.
[[noreturn, gnu::noinline, gnu::cold]] inline void FailCheck(const char *what) { Fail(what); }

inline void Check(bool good, const char *what) {
  if (__builtin_expect(!good, 0)) FailCheck(what);
}

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_FUZZ_TARGET_H_
