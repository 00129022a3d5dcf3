// SPDX-License-Identifier: Apache-2.0
//
// For tests with googletest: how much a piece of code keeps on the heap.
//
//   #include <hakmem/expect_heap.h>
//
//   TEST(Cache, ForgetsWhatItEvicts) {
//     Cache cache(100);
//     EXPECT_HEAP_AT_MOST(16384, for (int i = 0; i < 100000; i++) cache.Put(i, "value"));
//   }
//
// The statement keeps what is live after it and was not live before it, in usable bytes of all threads: what it
// allocated and freed again does not count. (hakmem_limit in Bazel bounds the peak.) The failure says which sizes grew.
// Other threads must not allocate meanwhile. What a first call caches for good counts too: make that call once before.
//
// hakmem must be the test's malloc; a test on another malloc fails. In Bazel @hakmem//allocator:expect_heap, and
// malloc = "@hakmem//allocator:malloc". Header-only, C++11 or later.
#ifndef HAKMEM_EXPECT_HEAP_H_
#define HAKMEM_EXPECT_HEAP_H_

#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace hakmem {

// The live blocks at two moments.
class HeapGrowth {
 public:
  // The first moment. The memory for both is allocated before it, so that it is live at both.
  HeapGrowth() : before_(HAK_STATS_TEXT_BYTES), after_(HAK_STATS_TEXT_BYTES) { Take(&before_); }
  HeapGrowth(const HeapGrowth &) = delete;
  HeapGrowth &operator=(const HeapGrowth &) = delete;

  // The second moment; a later call replaces it.
  void End() { Take(&after_); }

  // Usable bytes that are live at the second moment and in all; the growth is negative if memory was freed.
  long long Bytes() const { return Live(after_) - Live(before_); }
  long long LiveBytes() const { return Live(after_); }

  // The sizes that grew, the greatest growth first, a line for each: "\n  +3 blocks of up to 1024 bytes".
  std::string Grown() const {
    std::map<std::string, Count> sizes;
    Add(before_, -1, &sizes);
    Add(after_, 1, &sizes);
    std::vector<std::pair<long long, std::string>> lines;
    for (const auto &size : sizes) {
      const Count &count = size.second;
      if (count.bytes <= 0) continue;
      lines.emplace_back(-count.bytes, "\n  +" + std::to_string(count.blocks) +
                                           (count.blocks == 1 ? " block " : " blocks ") + size.first);
    }
    std::sort(lines.begin(), lines.end());
    std::string text;
    for (size_t i = 0; i < lines.size() && i < kMostLines; i++) text += lines[i].second;
    if (lines.size() > kMostLines) text += "\n  and " + std::to_string(lines.size() - kMostLines) + " more sizes";
    return text;
  }

  // Whether hakmem is the process's malloc. Otherwise nothing that the test allocates would count.
  static bool IsMalloc() {
    void *volatile probe = malloc(1);
    const bool is_ours = hak_owns(probe);
    free(probe);
    return is_ours;
  }

 private:
  static const size_t kMostLines = 8;
  struct Count {
    long long blocks = 0;
    long long bytes = 0;
  };
  using Text = std::vector<char>;  // of hak_stats_json

  static void Take(Text *text) { hak_stats_json(text->data(), text->size()); }

  // The number behind `"name":`, from `*at` on, which then is the place behind it. False: there is none.
  static bool Number(const std::string &text, const char *name, size_t *at, long long *value) {
    const std::string key = std::string("\"") + name + "\":";
    const size_t found = text.find(key, *at);
    if (found == std::string::npos) return false;
    *at = found + key.size();
    *value = atoll(text.c_str() + *at);  // of null: 0
    return true;
  }
  static long long Live(const Text &text) {
    size_t at = 0;
    long long value = 0;
    Number(text.data(), "live_bytes", &at, &value);
    return value;
  }
  static void Add(const Text &bytes, long long sign, std::map<std::string, Count> *sizes) {
    const std::string text = bytes.data();
    long long size = 0;
    long long blocks = 0;
    long long sum = 0;
    for (size_t at = 0; Number(text, "block_bytes", &at, &size) && Number(text, "live_blocks", &at, &blocks);) {
      Count &count = (*sizes)["of up to " + std::to_string(size) + " bytes"];
      count.blocks += sign * blocks;
      count.bytes += sign * blocks * size;
    }
    const std::string range = "without a size class, of up to ";
    for (size_t at = 0; Number(text, "up_to_bytes", &at, &size) && Number(text, "blocks", &at, &blocks) &&
                        Number(text, "bytes", &at, &sum);) {
      Count &count = (*sizes)[size != 0 ? range + std::to_string(size) + " bytes" : "without a size class, larger"];
      count.blocks += sign * blocks;
      count.bytes += sign * sum;
    }
  }

  Text before_;
  Text after_;
};

// Runs `code`, and says whether it keeps at most `most` bytes. `text` is the code's own text.
template <typename Code>
testing::AssertionResult HeapAtMost(long long most, const char *text, Code &&code) {
  if (!HeapGrowth::IsMalloc()) {
    return testing::AssertionFailure() << "hakmem is not this test's malloc, so nothing it allocates would count: "
                                          "malloc = \"@hakmem//allocator:malloc\"";
  }
  HeapGrowth growth;
  code();
  growth.End();
  if (growth.Bytes() <= most) return testing::AssertionSuccess();
  return testing::AssertionFailure() << text << "\nkeeps " << growth.Bytes() << " bytes, more than " << most
                                     << "; live are " << growth.LiveBytes() << growth.Grown();
}

}  // namespace hakmem

// Expects that the statements keep at most `bytes` bytes on the heap. A `return` in them ends only them. More text for
// the failure may follow, as with EXPECT_TRUE: EXPECT_HEAP_AT_MOST(0, Parse(input)) << input;
#define EXPECT_HEAP_AT_MOST(bytes, ...) EXPECT_TRUE(::hakmem::HeapAtMost((bytes), #__VA_ARGS__, [&] { __VA_ARGS__; }))

#endif  // HAKMEM_EXPECT_HEAP_H_
