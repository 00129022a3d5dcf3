// SPDX-License-Identifier: Apache-2.0
//
// The interface between a fuzz target and the program that drives it: that of libFuzzer
// (https://llvm.org/docs/LibFuzzer.html), which other fuzzing engines implement too.
#ifndef HAKMEM_FUZZ_FUZZ_TARGET_H_
#define HAKMEM_FUZZ_FUZZ_TARGET_H_

#include <stddef.h>
#include <stdint.h>

#include <stdexcept>
#include <string>

extern "C" {
// Defined by the target: runs one input. Must return 0, and must leave nothing behind that the next input could notice.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Optional, defined by the target: changes an input in place, and makes one input of two. Both return the new size.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2, size_t size2, uint8_t *out,
                                 size_t max_out_size, unsigned seed);

// Defined by the driver: its own mutation of some bytes.
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
}

namespace hak_fuzz {

// Ends the process with `what` on stderr. A target neither prints nor exits itself: nothing catches this exception, so
// the C++ runtime prints its message and aborts with the stack of this call.
[[noreturn]] inline void Fail(const std::string &what) { throw std::logic_error(what); }

// Not inlined, so that the string is not part of the caller's frame if the check passes.
[[noreturn, gnu::noinline, gnu::cold]] inline void FailCheck(const char *what) { Fail(what); }

inline void Check(bool good, const char *what) {
  if (__builtin_expect(!good, 0)) FailCheck(what);
}

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_FUZZ_TARGET_H_
