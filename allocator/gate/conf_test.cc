// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/conf.h"

#include <gtest/gtest.h>
#include <string.h>

#include <memory>
#include <string>
#include <vector>

namespace {

using Texts = std::vector<std::string>;

// A copy that ends where its memory ends, so that a sanitizer sees a read behind it.
class Exact {
 public:
  explicit Exact(const std::string &text) : copy_(new char[text.size() + 1]) {
    memcpy(copy_.get(), text.c_str(), text.size() + 1);
  }
  const char *get() const { return copy_.get(); }

 private:
  std::unique_ptr<char[]> copy_;
};

Texts Items(const std::string &text) {
  const Exact copy(text);
  const char *rest = copy.get();
  Texts items;
  hak_conf_item item;
  while (hak_conf_next(&rest, &item)) items.emplace_back(item.text, item.length);
  EXPECT_EQ(rest, copy.get() + text.size()) << text;
  return items;
}

// The only item of the text.
hak_conf_item Only(const Exact &text) {
  const char *rest = text.get();
  hak_conf_item item = {};
  EXPECT_TRUE(hak_conf_next(&rest, &item)) << text.get();
  EXPECT_EQ(*rest, '\0');
  return item;
}

bool Names(const char *text, const char *gate) {
  const Exact copy(text);
  const hak_conf_item item = Only(copy);
  return hak_conf_names(&item, gate);
}

TEST(ConfNext, ItemsHaveCommasOrWhiteSpaceBetweenThem) {
  EXPECT_EQ(Items("a=1"), Texts{"a=1"});
  EXPECT_EQ(Items("a=1,b=2 c=3\td=4\ne=5\rf=6"), (Texts{"a=1", "b=2", "c=3", "d=4", "e=5", "f=6"}));
  EXPECT_EQ(Items(" ,, a=1 , ,b=2,\n"), (Texts{"a=1", "b=2"}));
  EXPECT_EQ(Items("a:1;b=2"), Texts{"a:1;b=2"});
}

TEST(ConfNext, NothingIsNoItem) {
  for (const char *text : {"", " ", ",", " , \t\r\n,"}) EXPECT_EQ(Items(text), Texts{}) << '"' << text << '"';
}

TEST(ConfNext, TheEndStaysTheEnd) {
  const char *rest = " ";
  hak_conf_item item;
  memset(&item, 0x5A, sizeof item);
  const hak_conf_item before = item;
  EXPECT_FALSE(hak_conf_next(&rest, &item));
  EXPECT_FALSE(hak_conf_next(&rest, &item));
  EXPECT_EQ(*rest, '\0');
  EXPECT_EQ(memcmp(&item, &before, sizeof item), 0);
}

TEST(ConfNext, APairHasANameAndAValue) {
  const Exact text("profile=lean");
  const hak_conf_item item = Only(text);
  EXPECT_TRUE(item.is_pair);
  EXPECT_EQ(item.name, 7u);
  EXPECT_STREQ(item.value, "lean");
  // The first '=' ends the name; everything behind it is the value.
  const Exact equals("a=b=c=");
  EXPECT_STREQ(Only(equals).value, "b=c=");
  const Exact nothing("a=");
  EXPECT_TRUE(Only(nothing).is_pair);
  EXPECT_STREQ(Only(nothing).value, "");
}

TEST(ConfNext, WithoutNameOrEqualsItIsNoPair) {
  for (const char *word : {"lean", "=", "=lean", "==", "profile:lean"}) {
    const Exact text(word);
    const hak_conf_item item = Only(text);
    EXPECT_FALSE(item.is_pair) << word;
    EXPECT_EQ(item.name, 0u) << word;
    EXPECT_FALSE(hak_conf_names(&item, "HAKMEM_PROFILE")) << word;
  }
}

TEST(ConfNext, AValueHasItsLongestLength) {
  const std::string longest(HAK_CONF_VALUE_MAX, 'v');
  const Exact fits("a=" + longest);
  EXPECT_TRUE(Only(fits).is_pair);
  EXPECT_EQ(Only(fits).value, longest);
  const Exact longer("a=" + longest + "v");
  EXPECT_FALSE(Only(longer).is_pair);
  EXPECT_TRUE(Names(longer.get(), "HAKMEM_A"));  // the setting is still recognised, for the message
}

TEST(ConfNames, WithOrWithoutThePrefixInEitherCase) {
  for (const char *text : {"HAKMEM_KEEP_FREE_KB=1", "KEEP_FREE_KB=1", "keep_free_kb=1", "hakmem_keep_free_kb=1",
                           "Hakmem_Keep_Free_kB=1"}) {
    EXPECT_TRUE(Names(text, "HAKMEM_KEEP_FREE_KB")) << text;
  }
  for (const char *text :
       {"HAKMEM_=1", "HAKMEM_HAKMEM_KEEP_FREE_KB=1", "KEEP_FREE_KBS=1", "KEEP_FREE_K=1", "XKEEP_FREE_KB=1",
        "_KEEP_FREE_KB=1", "keep-free-kb=1", "KEEP_FREE_KB", "HAKMEM-KEEP_FREE_KB=1", "K=1"}) {
    EXPECT_FALSE(Names(text, "HAKMEM_KEEP_FREE_KB")) << text;
  }
}

TEST(ConfTooLong, CountsNoFurtherThanItMust) {
  EXPECT_FALSE(hak_conf_too_long(""));
  EXPECT_FALSE(hak_conf_too_long(std::string(HAK_CONF_LENGTH_MAX, ' ').c_str()));
  EXPECT_TRUE(hak_conf_too_long(std::string(HAK_CONF_LENGTH_MAX + 1, ' ').c_str()));
  // There is no NUL in the memory that may be read.
  const std::vector<char> endless(HAK_CONF_LENGTH_MAX + 1, 'x');
  EXPECT_TRUE(hak_conf_too_long(endless.data()));
}

}  // namespace
