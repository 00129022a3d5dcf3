// SPDX-License-Identifier: Apache-2.0
//
// A cache keeps what fits and forgets the rest.
#include <gtest/gtest.h>
#include <hakmem/expect_heap.h>

#include <deque>
#include <string>

namespace {

class Cache {
 public:
  explicit Cache(size_t most) : most_(most) {}
  void Put(const std::string &value) {
    values_.push_back(value);
    if (values_.size() > most_) values_.pop_front();
  }

 private:
  size_t most_;
  std::deque<std::string> values_;
};

TEST(Cache, ForgetsWhatItEvicts) {
  Cache cache(100);
  const std::string value(1000, 'x');
  EXPECT_HEAP_AT_MOST(128 * 1024, for (int i = 0; i < 100000; i++) cache.Put(value));
}

TEST(Cache, KeepsWhatFits) {
  Cache cache(100000);
  const std::string value(1000, 'x');
  EXPECT_FALSE(hakmem::HeapAtMost(128 * 1024, "", [&] {
    for (int i = 0; i < 1000; i++) cache.Put(value);
  }));
}

}  // namespace
