// SPDX-License-Identifier: Apache-2.0
//
// The engine of cgroup_fuzzer on a reader of limits with planted bugs: it must notice each, and must find nothing in
// the same reader without a bug, nor in hakmem's.
#include <errno.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/cgroup_engine.h"
#include "fuzz/controls.h"

namespace hak_fuzz {
namespace {

enum class Wrong {
  kNothing,
  kMaxIsALimit,       // "max" is a limit: the highest number
  kMaxEndsTheSearch,  // "max" in a group hides the limits of those above
  kNewlineNeeded,     // a number without a newline is refused
  kOverflowWraps,     // numbers are taken modulo 2^64
  kRestIgnored,       // characters after the digits are ignored
  kShortRead,         // the last digits of long numbers are not read
  kParentsIgnored,    // only the process's own group is read
  kRootIgnored,       // the mount point is not read
  kHighIgnored,       // only memory.max is read
  kHighest,           // the highest limit counts
  kPrefixAnywhere,    // "10::/a" is read as "0::/a"
  kFirstVersion,      // the path of the first line is used, whatever its hierarchy
  kLastLine,          // the last line of cgroup v2 is used instead of the first
  kSetsErrno,         // a missing file changes errno
  kLongPathsCut,      // a path that is too long is truncated
  kWrongs,
};
Wrong g_wrong;

bool Is(Wrong wrong) { return g_wrong == wrong; }

uint64_t PlantedLimit(const std::string &path, bool *unlimited) {
  FILE *file = fopen(path.c_str(), "r");
  if (file == nullptr) return 0;
  char text[32] = {};
  const size_t got = fread(text, 1, Is(Wrong::kShortRead) ? 8 : sizeof text - 1, file);
  fclose(file);
  const std::string whole(text, got);
  *unlimited = whole.compare(0, 3, "max") == 0;
  if (*unlimited && Is(Wrong::kMaxIsALimit)) return UINT64_MAX;
  uint64_t value = 0;
  size_t at = 0;
  for (; at < whole.size() && whole[at] >= '0' && whole[at] <= '9'; ++at) {
    const auto digit = static_cast<uint64_t>(whole[at] - '0');
    const bool fits =
        !__builtin_mul_overflow(value, uint64_t{10}, &value) && !__builtin_add_overflow(value, digit, &value);
    if (!fits && !Is(Wrong::kOverflowWraps)) return 0;
  }
  if (at == whole.size()) return Is(Wrong::kNewlineNeeded) ? 0 : value;
  return whole[at] == '\n' || Is(Wrong::kRestIgnored) ? value : 0;
}

// The text after "0::" in the line of cgroup v2; "": there is none.
std::string PlantedGroup(const std::string &membership) {
  std::string group;
  for (size_t begin = 0; begin < membership.size();) {
    const size_t end = std::min(membership.find('\n', begin), membership.size());
    const std::string line = membership.substr(begin, end - begin);
    const size_t found = line.find(Is(Wrong::kFirstVersion) ? ":/" : "0::/");
    if (found == 0 || (found != std::string::npos && (Is(Wrong::kPrefixAnywhere) || Is(Wrong::kFirstVersion)))) {
      group = line.substr(line.find('/', found));
      if (!Is(Wrong::kLastLine)) return group;
    }
    begin = end + 1;
  }
  return group;
}

uint64_t PlantedReader(const char *mount, const char *membership) {
  const int saved = errno;
  const std::string root = mount;
  std::string group = PlantedGroup(membership);
  if (group.empty()) return 0;
  if (root.size() + group.size() >= 1024) return Is(Wrong::kLongPathsCut) ? 1 : 0;
  const auto no_slashes = [&group] {
    while (!group.empty() && group.back() == '/') group.pop_back();
  };
  no_slashes();
  std::vector<uint64_t> limits;
  for (bool last = false; !last;) {
    last = group.empty() || Is(Wrong::kParentsIgnored);
    bool unlimited = false;
    for (const char *name : {"/memory.high", "/memory.max"}) {
      if (Is(Wrong::kHighIgnored) && name[8] == 'h') continue;
      if (Is(Wrong::kRootIgnored) && group.empty()) continue;
      const uint64_t limit = PlantedLimit(root + group + name, &unlimited);
      if (limit != 0) limits.push_back(limit);
    }
    if (unlimited && Is(Wrong::kMaxEndsTheSearch)) break;
    group.resize(group.empty() ? 0 : group.find_last_of('/'));
    no_slashes();
  }
  if (!Is(Wrong::kSetsErrno)) errno = saved;
  if (limits.empty()) return 0;
  return Is(Wrong::kHighest) ? *std::max_element(limits.begin(), limits.end())
                             : *std::min_element(limits.begin(), limits.end());
}

// Files of words, and a group that usually exists. The corpus has inputs that mutations of bytes would not make soon.
std::vector<uint8_t> RandomFiles(uint64_t seed) {
  static const char *const groups[] = {"0::/\n",     "0::/a\n",         "0::/a/b\n",          "0::/a/b",
                                       "0::/a/\n",   "10::/a\n0::/\n",  "1:cpu:/a/b\n0::/\n", "0::/c\n",
                                       "1:cpu:/a\n", "0::/\n0::/a/b\n", "0::/a/b//"};
  static const char *const texts[] = {"max\n",
                                      "max",
                                      "5\n",
                                      "700000",
                                      "123456789012\n",
                                      "7x\n",
                                      "18446744073709551615\n",
                                      "18446744073709551617\n",
                                      "0\n",
                                      " 3\n",
                                      "\n",
                                      "",
                                      ""};
  hak_test::Random random(seed);
  std::string input = groups[random.Index(std::size(groups))];
  for (int file = 0; file < 6; ++file) {
    input += '\0';
    input += texts[random.Index(std::size(texts))];
  }
  return std::vector<uint8_t>(input.begin(), input.end());
}

void ExpectCgroup(const CgroupCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunCgroupInput(calls, data, size); }, what, RandomFiles, 150);
}

TEST(CgroupControl, OurReader) { ExpectCgroup({}, "nothing"); }

class PlantedReaderTest : public testing::TestWithParam<int> {};

TEST_P(PlantedReaderTest, IsFound) {
  g_wrong = static_cast<Wrong>(GetParam());
  CgroupCalls calls;
  calls.limit_in = PlantedReader;
  const char *what = Is(Wrong::kNothing)        ? "nothing"
                     : Is(Wrong::kSetsErrno)    ? "hak_os_cgroup_limit_in sets errno"
                     : Is(Wrong::kLongPathsCut) ? "a path too long"
                                                : "another limit than the files say";
  ExpectCgroup(calls, what);
}

INSTANTIATE_TEST_SUITE_P(Wrongs, PlantedReaderTest, testing::Range(0, static_cast<int>(Wrong::kWrongs)));

TEST(CgroupControl, OwnLimitSetsErrno) {
  CgroupCalls calls;
  calls.limit = [] {
    errno = ENOENT;
    return uint64_t{0};
  };
  ExpectCgroup(calls, "hak_os_cgroup_limit sets errno");
}

}  // namespace
}  // namespace hak_fuzz
