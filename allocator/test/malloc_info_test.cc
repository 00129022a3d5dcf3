// SPDX-License-Identifier: Apache-2.0
//
// malloc_info writes the C library's XML: its elements in its order, read strictly, with the numbers of mallinfo2. What
// programs compute from them (bytes in use: current - fast - rest + mmap) is right.
#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

struct Size {
  size_t from, to, total, count;
};

// One block of totals: that of the heap, or that of all heaps together.
struct Totals {
  size_t fast_count, fast, rest_count, rest, mmap_count, mmap, current, max, total, mprotect;
};

struct Info {
  std::vector<Size> sizes;
  Totals heap = {};
  Totals all = {};
};

// Reads the lines of the text one after another, each by the only form that it may have.
class Reader {
 public:
  explicit Reader(const char *text) : at_(text) {}

  // What is wrong; "" for nothing.
  std::string Read(Info *info) {
    if (!Line("<malloc version=\"1\">") || !Line("<heap nr=\"0\">") || !Line("<sizes>")) return Rest();
    for (Size size; Line("  <size from=\"N\" to=\"N\" total=\"N\" count=\"N\"/>");) {
      size = {numbers_[0], numbers_[1], numbers_[2], numbers_[3]};
      info->sizes.push_back(size);
    }
    if (!Line("</sizes>") || !ReadTotals(&info->heap, false) || !Line("</heap>")) return Rest();
    if (!ReadTotals(&info->all, true) || !Line("</malloc>") || *at_ != '\0') return Rest();
    return "";
  }

 private:
  std::string Rest() const { return "wrong from here on: " + std::string(at_).substr(0, 100); }

  // Whether the next line is `form`, in which N is a number; goes behind it.
  bool Line(const std::string &form) {
    numbers_.clear();
    const char *at = at_;
    for (const char c : form) {
      if (c != 'N') {
        if (*at++ != c) return false;
        continue;
      }
      if (*at < '0' || *at > '9') return false;
      char *end = nullptr;
      numbers_.push_back(strtoul(at, &end, 10));
      at = end;
    }
    if (*at != '\n') return false;
    at_ = at + 1;
    return true;
  }

  bool Pair(const char *form, size_t *count, size_t *size) {
    if (!Line(form)) return false;
    *count = numbers_[0];
    *size = numbers_[1];
    return true;
  }
  bool One(const char *form, size_t *size) {
    if (!Line(form)) return false;
    *size = numbers_[0];
    return true;
  }
  bool ReadTotals(Totals *to, bool all) {
    return Pair("<total type=\"fast\" count=\"N\" size=\"N\"/>", &to->fast_count, &to->fast) &&
           Pair("<total type=\"rest\" count=\"N\" size=\"N\"/>", &to->rest_count, &to->rest) &&
           (!all || Pair("<total type=\"mmap\" count=\"N\" size=\"N\"/>", &to->mmap_count, &to->mmap)) &&
           One("<system type=\"current\" size=\"N\"/>", &to->current) &&
           One("<system type=\"max\" size=\"N\"/>", &to->max) &&
           One("<aspace type=\"total\" size=\"N\"/>", &to->total) &&
           One("<aspace type=\"mprotect\" size=\"N\"/>", &to->mprotect);
  }

  const char *at_;
  std::vector<size_t> numbers_;
};

struct Taken {
  std::string text;
  struct mallinfo2 now;
};

// Nothing is allocated between malloc_info and mallinfo2: the first call makes what the stream needs.
Taken Take() {
  static char buffer[65536];
  FILE *stream = fmemopen(buffer, sizeof buffer, "w");
  EXPECT_EQ(malloc_info(0, stream), 0);
  fflush(stream);
  rewind(stream);
  memset(buffer, 0, sizeof buffer);
  EXPECT_EQ(malloc_info(0, stream), 0);
  const struct mallinfo2 now = mallinfo2();
  fclose(stream);
  return {buffer, now};
}

void Check() {
  const Taken taken = Take();
  Info info;
  ASSERT_EQ(Reader(taken.text.c_str()).Read(&info), "");
  const Totals &all = info.all;
  EXPECT_EQ(all.fast_count, taken.now.smblks);
  EXPECT_EQ(all.fast, taken.now.fsmblks);
  EXPECT_EQ(all.mmap_count, taken.now.hblks);
  EXPECT_EQ(all.mmap, taken.now.hblkhd);
  EXPECT_EQ(all.current, taken.now.arena);
  EXPECT_EQ(all.current - all.fast - all.rest, taken.now.uordblks);
  EXPECT_GE(all.max, all.current);
  EXPECT_EQ(all.total, all.current);
  EXPECT_EQ(all.mprotect, all.current);
  EXPECT_EQ(info.heap.fast, all.fast);
  EXPECT_EQ(info.heap.fast_count, all.fast_count);
  EXPECT_EQ(info.heap.rest, all.rest);
  EXPECT_EQ(info.heap.rest_count, all.rest_count);
  EXPECT_EQ(info.heap.current, all.current);
  EXPECT_EQ(info.heap.max, all.max);
  EXPECT_EQ(info.heap.total, all.total);
  size_t count = 0, bytes = 0, last = 0;
  for (const Size &size : info.sizes) {
    EXPECT_LE(size.from, size.to);
    EXPECT_GT(size.from, last) << "not in ascending order";
    EXPECT_GT(size.count, 0u);
    EXPECT_EQ(size.total, size.count * size.to);
    last = size.to;
    count += size.count;
    bytes += size.total;
  }
  EXPECT_EQ(all.rest_count, count + taken.now.ordblks);
  EXPECT_LE(bytes, all.rest);
}

// Calls that the compiler does not remove.
void *volatile hidden;

TEST(MallocInfo, IsTheXmlOfTheCLibrary) {
  Check();
  std::vector<void *> blocks;
  for (size_t size = 1; size < 3000000; size += 1 + size / 9) {
    for (int i = 0; i < 5; ++i) blocks.push_back(malloc(size));
  }
  Check();
  for (size_t i = 0; i < blocks.size(); i += 3) {
    hidden = blocks[i];
    free(hidden);
    blocks[i] = nullptr;
  }
  Check();
  malloc_trim(0);
  Check();
  for (void *p : blocks) free(p);
  Check();
}

// A slab has room for two blocks of 23,000 bytes: the second is free although it was never handed out.
TEST(MallocInfo, ListsFreeBlocksBySize) {
  const auto free_blocks = [](size_t size) {
    Info info;
    EXPECT_EQ(Reader(Take().text.c_str()).Read(&info), "");
    size_t count = 0;
    for (const Size &one : info.sizes) count += one.from >= size && one.to < size + 2000 ? one.count : 0;
    return count;
  };
  std::vector<void *> blocks;
  size_t most = 0;
  for (int i = 0; i < 8; ++i) {
    hidden = malloc(23000);
    void *p = hidden;
    blocks.push_back(p);
    most = std::max(most, free_blocks(23000));
  }
  EXPECT_GT(most, 0u);
  for (void *p : blocks) free(p);
}

TEST(MallocInfo, TheReaderIsStrict) {
  const std::string good = Take().text;
  Info info;
  ASSERT_EQ(Reader(good.c_str()).Read(&info), "");
  for (size_t at = 0; at < good.size(); at += 1 + at / 40) {
    EXPECT_NE(Reader(good.substr(0, at).c_str()).Read(&info), "") << at;
    std::string bad = good;
    bad.insert(at, 1, '?');
    EXPECT_NE(Reader(bad.c_str()).Read(&info), "") << at;
  }
}

TEST(MallocInfo, RefusesOptionsAndStreamsThatCannotBeWritten) {
  errno = 0;
  EXPECT_EQ(malloc_info(1, stdout), -1);
  EXPECT_EQ(errno, EINVAL);
  FILE *full = fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  setvbuf(full, nullptr, _IONBF, 0);
  EXPECT_EQ(malloc_info(0, full), -1);
  fclose(full);
}

}  // namespace
