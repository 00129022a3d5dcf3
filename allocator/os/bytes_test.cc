// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/bytes.h"

#include <gtest/gtest.h>
#include <string.h>

#include <string>
#include <vector>

namespace {

enum { kMost = 70, kRoom = 3 * kMost };

std::vector<unsigned char> Numbers() {
  std::vector<unsigned char> bytes(kRoom);
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<unsigned char>(i + 1);
  return bytes;
}

TEST(BytesTest, CopyIsMemcpyAtEverySizeAndAddress) {
  for (size_t size = 0; size <= kMost; size++) {
    for (size_t shift = 0; shift < 9; shift++) {
      const std::vector<unsigned char> from = Numbers();
      std::vector<unsigned char> to(kRoom, 0xEE);
      std::vector<unsigned char> expected = to;
      hak_bytes_copy(&to[shift], &from[8 - shift], size);
      memcpy(&expected[shift], &from[8 - shift], size);
      EXPECT_EQ(to, expected) << size << " bytes at " << shift;
    }
  }
}

TEST(BytesTest, CopyMovesBytesDown) {
  for (size_t size = 0; size <= kMost; size++) {
    for (size_t distance = 1; distance <= 20; distance++) {
      std::vector<unsigned char> bytes = Numbers();
      std::vector<unsigned char> expected = bytes;
      hak_bytes_copy(bytes.data(), &bytes[distance], size);
      memmove(expected.data(), &expected[distance], size);
      EXPECT_EQ(bytes, expected) << size << " bytes by " << distance;
    }
  }
}

TEST(BytesTest, FillAndCompareSeeEveryByte) {
  for (size_t size = 0; size <= kMost; size++) {
    for (size_t shift = 0; shift < 9; shift++) {
      std::vector<unsigned char> bytes = Numbers();
      std::vector<unsigned char> expected = bytes;
      hak_bytes_fill(&bytes[shift], 0xC3, size);
      memset(&expected[shift], 0xC3, size);
      ASSERT_EQ(bytes, expected) << size << " bytes at " << shift;
      EXPECT_TRUE(hak_bytes_are(&bytes[shift], 0xC3, size));
      for (size_t i = 0; i < size; i++) {
        bytes[shift + i] ^= 0x40;
        EXPECT_FALSE(hak_bytes_are(&bytes[shift], 0xC3, size)) << i << " of " << size;
        bytes[shift + i] ^= 0x40;
      }
    }
  }
}

TEST(BytesTest, TextIsComparedAsByTheCLibrary) {
  const std::vector<std::string> texts = {"", "a", "ab", "abc", "b", "abd", "ab\n", "\xFF", "a\xFF"};
  for (const std::string &a : texts) {
    EXPECT_EQ(hak_text_length(a.c_str()), a.size());
    for (const std::string &b : texts) {
      EXPECT_EQ(hak_text_is(a.c_str(), b.c_str()), a == b) << a << ", " << b;
      EXPECT_EQ(hak_text_begins(a.c_str(), b.c_str()), a.compare(0, b.size(), b) == 0) << a << ", " << b;
      EXPECT_EQ(hak_text_find(a.c_str(), b.c_str()), strstr(a.c_str(), b.c_str())) << a << ", " << b;
    }
  }
  const char *const repeated = "aabaabaaac";
  EXPECT_EQ(hak_text_find(repeated, "aac"), repeated + 7);
}

}  // namespace
