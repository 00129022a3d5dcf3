// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/siphash.h"

#include <gtest/gtest.h>

namespace {

// The key 00 01 .. 0f and the message 00 01 .. 0f. The result is that of another implementation:
//   openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:8 SipHash
TEST(SipHash, GivesWhatOtherImplementationsGive) {
  const uint64_t bytes[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
  EXPECT_EQ(hak_siphash(bytes, bytes), 0x3f2acc7f57c29bdbu);
}

}  // namespace
