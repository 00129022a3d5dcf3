// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/edit_distance.h"

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "allocator/os/unit_test.h"

namespace {

// Copies that end where their memory ends, so that a sanitizer sees a read behind them.
uint32_t Distance(const std::string &a, const std::string &b) {
  const std::unique_ptr<char[]> exact_a(new char[a.size()]), exact_b(new char[b.size()]);
  memcpy(exact_a.get(), a.data(), a.size());
  memcpy(exact_b.get(), b.data(), b.size());
  return hak_edit_distance(exact_a.get(), a.size(), exact_b.get(), b.size());
}

// By the definition, with the whole table; small letters only.
uint32_t Naive(const std::string &a, const std::string &b) {
  std::vector<std::vector<uint32_t>> table(a.size() + 1, std::vector<uint32_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); i++) {
    for (size_t j = 0; j <= b.size(); j++) {
      if (i == 0 || j == 0) {
        table[i][j] = static_cast<uint32_t>(i + j);
        continue;
      }
      table[i][j] = std::min({table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
    }
  }
  return table[a.size()][b.size()];
}

TEST(EditDistance, KnownOnes) {
  EXPECT_EQ(Distance("", ""), 0u);
  EXPECT_EQ(Distance("", "abc"), 3u);
  EXPECT_EQ(Distance("abc", ""), 3u);
  EXPECT_EQ(Distance("abc", "abc"), 0u);
  EXPECT_EQ(Distance("profil", "profile"), 1u);
  EXPECT_EQ(Distance("profile", "prfoile"), 2u);
  EXPECT_EQ(Distance("kitten", "sitting"), 3u);
  EXPECT_EQ(Distance("saturday", "sunday"), 3u);
}

TEST(EditDistance, CaseIsEqualForAsciiLettersAlone) {
  EXPECT_EQ(Distance("Profile_KB", "pROFILE_kb"), 0u);
  EXPECT_EQ(Distance("@", "`"), 1u);
  EXPECT_EQ(Distance("[", "{"), 1u);
  EXPECT_EQ(Distance("\xC4", "\xE4"), 1u);
}

TEST(EditDistance, OfRandomTextsThatOfTheDefinition) {
  hak_unit::Random random(1);
  for (int i = 0; i < hak_unit::Operations(4000); i++) {
    std::string a(random.Below(HAK_EDIT_LENGTH_MAX + 1), '\0'), b(random.Below(HAK_EDIT_LENGTH_MAX + 1), '\0');
    for (char &c : a) c = static_cast<char>('a' + random.Below(3));
    for (char &c : b) c = static_cast<char>('a' + random.Below(3));
    ASSERT_EQ(Distance(a, b), Naive(a, b)) << a << ' ' << b;
  }
}

TEST(EditDistance, LongTextsAreNotCompared) {
  const std::string longest(HAK_EDIT_LENGTH_MAX, 'a'), longer(HAK_EDIT_LENGTH_MAX + 1, 'a');
  EXPECT_EQ(Distance(longest, longest), 0u);
  EXPECT_EQ(Distance(longest, ""), uint32_t{HAK_EDIT_LENGTH_MAX});
  EXPECT_EQ(Distance(longer, longest), UINT32_MAX);
  EXPECT_EQ(Distance("a", longer), UINT32_MAX);
  EXPECT_EQ(Distance(std::string(100000, 'a'), longer), UINT32_MAX);
}

}  // namespace
