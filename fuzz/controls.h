// SPDX-License-Identifier: Apache-2.0
//
// For tests that plant bugs below an engine: what the engine reports first. Each case is a process of its own, because
// planted bugs leave wrong records behind.
#ifndef HAKMEM_FUZZ_CONTROLS_H_
#define HAKMEM_FUZZ_CONTROLS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "allocator/test/test_random.h"
#include "fuzz/op_mutator.h"

namespace hak_fuzz {

using Engine = std::function<void(const uint8_t *data, size_t size)>;
using MakeInput = std::vector<uint8_t> (*)(uint64_t seed);

// An input like the first ones that a fuzzer makes.
inline std::vector<uint8_t> RandomRecords(uint64_t seed) {
  hak_test::Random random(seed);
  std::vector<uint8_t> input(40 * kRecord);
  for (uint8_t &byte : input) byte = static_cast<uint8_t>(random.Next());
  return input;
}

// What the engine reports first in this many inputs, or "".
inline std::string Find(const Engine &engine, MakeInput make, uint64_t inputs) {
  for (uint64_t seed = 0; seed < inputs; ++seed) {
    const std::vector<uint8_t> input = make(seed);
    try {
      engine(input.data(), input.size());
    } catch (const std::logic_error &error) {
      return error.what();
    }
  }
  return "";
}

// For bugs that occur only sometimes: true once in so many calls.
inline bool StrikesOnceIn(unsigned calls) {
  static unsigned done = 0;
  return ++done % calls == 0;
}

// What the child says of the input, without what hakmem says of guard pages that the kernel refused.
inline testing::Matcher<const std::string &> Says(const testing::Matcher<const std::string &> &what) {
  const auto without = [](const std::string &text) {
    const std::string line = "hakmem: the kernel has refused a guard page: from now on blocks may go without them\n";
    const size_t at = text.find(line);
    return at == std::string::npos ? text : text.substr(0, at) + text.substr(at + line.size());
  };
  return testing::ResultOf(without, what);
}

// A child reports its findings on stderr.
inline void TellFound(const Engine &engine, MakeInput make, uint64_t inputs) {
  const std::string found = Find(engine, make, inputs);
  fputs(found.empty() ? "nothing" : found.c_str(), stderr);
  _exit(0);
}

// Expects that the engine reports `what` ("nothing" for no report), by default in as many inputs as a fuzzer runs in
// well under a second.
inline void ExpectFinds(const Engine &engine, const testing::Matcher<const std::string &> &what,
                        MakeInput make = RandomRecords, uint64_t inputs = 400) {
  EXPECT_EXIT(TellFound(engine, make, inputs), testing::ExitedWithCode(0), Says(what));
}

// The same for a bug that hakmem itself may notice first and end the process.
inline void ExpectFindsOrEnds(const Engine &engine, const testing::Matcher<const std::string &> &what,
                              MakeInput make = RandomRecords, uint64_t inputs = 400) {
  const auto ends = [](int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  };
  EXPECT_EXIT(TellFound(engine, make, inputs), ends, Says(what));
}

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_CONTROLS_H_
