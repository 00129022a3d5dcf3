// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/cgroup.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdint.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;

// A hierarchy of groups in a temporary folder.
class Cgroup : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/cgroup.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    mount_ = folder;
  }
  void TearDown() override { fs::remove_all(mount_); }

  // Writes a file of the group, "" or "/a/b".
  void Write(const std::string &group, const char *name, const std::string &text) {
    fs::create_directories(mount_ + group);
    std::ofstream(mount_ + group + "/" + name) << text;
  }
  void Max(const std::string &group, const std::string &text) { Write(group, "memory.max", text); }
  void High(const std::string &group, const std::string &text) { Write(group, "memory.high", text); }

  uint64_t Limit(const std::string &membership) const {
    errno = E2BIG;
    const uint64_t limit = hak_os_cgroup_limit_in(mount_.c_str(), membership.c_str());
    EXPECT_EQ(errno, E2BIG);
    return limit;
  }

  std::string mount_;
};

TEST_F(Cgroup, ANumberIsTheLimitAndMaxIsNone) {
  Max("/a", "1000000\n");
  EXPECT_EQ(Limit("0::/a\n"), 1000000u);
  Max("/a", "max\n");
  EXPECT_EQ(Limit("0::/a\n"), 0u);
  High("/a", "max\n");
  EXPECT_EQ(Limit("0::/a\n"), 0u);
  High("/a", "4096\n");
  EXPECT_EQ(Limit("0::/a\n"), 4096u);
}

// A longer path is not read: the limits of the groups above it count.
TEST_F(Cgroup, APathHasUpTo1023Bytes) {
  Max("", "7000\n");
  const std::string file = "/memory.max";
  for (const size_t length : {size_t{1023}, size_t{1024}}) {
    std::string group;
    while (mount_.size() + group.size() + file.size() < length) {
      const size_t left = length - mount_.size() - group.size() - file.size();
      // A name has up to 255 bytes, and at least one.
      group += '/' + std::string(left > 202 ? 200 : left - 1, 'x');
    }
    ASSERT_EQ((mount_ + group + file).size(), length);
    Max(group, "5000\n");
    EXPECT_EQ(Limit("0::" + group + "\n"), length == 1023 ? 5000u : 7000u);
  }
}

TEST_F(Cgroup, TheLowerOfHighAndMaxCounts) {
  Max("/a", "2000\n");
  High("/a", "1500\n");
  EXPECT_EQ(Limit("0::/a\n"), 1500u);
  High("/a", "2500\n");
  EXPECT_EQ(Limit("0::/a\n"), 2000u);
}

TEST_F(Cgroup, TheLowestOfAllGroupsAboveCounts) {
  Max("/a/b/c", "3000\n");
  EXPECT_EQ(Limit("0::/a/b/c\n"), 3000u);
  Max("/a", "2000\n");  // none in /a/b
  EXPECT_EQ(Limit("0::/a/b/c\n"), 2000u);
  EXPECT_EQ(Limit("0::/a/b\n"), 2000u);
  High("/a/b", "1000\n");
  EXPECT_EQ(Limit("0::/a/b/c\n"), 1000u);
  EXPECT_EQ(Limit("0::/a\n"), 2000u);
  Max("", "500\n");  // the mount point itself: inside a container it is the container's own group, and can have a limit
  EXPECT_EQ(Limit("0::/a/b/c\n"), 500u);
  Max("/a/b/c", "100\n");
  EXPECT_EQ(Limit("0::/a/b/c\n"), 100u);
  EXPECT_EQ(Limit("0::/a/b\n"), 500u);
}

TEST_F(Cgroup, GroupsBesideAndBelowDoNotCount) {
  Max("/a", "3000\n");
  Max("/a/below", "2\n");
  Max("/ab", "1\n");
  Max("/b", "1\n");
  EXPECT_EQ(Limit("0::/a\n"), 3000u);
}

TEST_F(Cgroup, TheRootIsTheMountPoint) {
  EXPECT_EQ(Limit("0::/\n"), 0u);
  Max("/a", "1000\n");
  EXPECT_EQ(Limit("0::/\n"), 0u);
  Max("", "2000\n");
  EXPECT_EQ(Limit("0::/\n"), 2000u);
  EXPECT_EQ(Limit("0::/"), 2000u);  // no newline
}

TEST_F(Cgroup, WithoutFilesThereIsNoLimit) {
  EXPECT_EQ(Limit("0::/nowhere/at/all\n"), 0u);
  fs::create_directories(mount_ + "/a/memory.max");  // a folder can be opened but not read
  EXPECT_EQ(Limit("0::/a\n"), 0u);
  // If the group was removed, the groups above it still count.
  Max("", "7000\n");
  EXPECT_EQ(Limit("0::/nowhere/at/all\n"), 7000u);
  EXPECT_EQ(Limit("0::/nowhere (deleted)\n"), 7000u);
  errno = E2BIG;
  EXPECT_EQ(hak_os_cgroup_limit_in((mount_ + "/no-mount").c_str(), "0::/a\n"), 0u);
  EXPECT_EQ(errno, E2BIG);
}

TEST_F(Cgroup, OnlyTheLineOfTheSecondVersionCounts) {
  Max("", "7000\n");
  Max("/a", "6000\n");
  for (const char *text : {"", "\n", "12:memory:/a\n1:name=systemd:/\n", "0::", "0::\n", "0:/a\n", ":0::/a\n",
                           " 0::/a\n", "10::/a\n", "1:name=0::/a:/a\n", "0::a\n", "12:memory:/a"}) {
    EXPECT_EQ(Limit(text), 0u) << '"' << text << '"';
  }
  Max("/memory", "1\n");
  EXPECT_EQ(Limit("12:memory:/memory\n1:name=systemd:/memory\n0::/a\n"), 6000u);
  EXPECT_EQ(Limit("0::/a\n12:memory:/memory\n"), 6000u);
  EXPECT_EQ(Limit("1:name=x:/memory\n0::/a\n1:cpu:/memory"), 6000u);
}

TEST_F(Cgroup, SlashesAtTheEndsChangeNothing) {
  Max("/a", "6000\n");
  Max("", "7000\n");
  EXPECT_EQ(Limit("0::/a/\n"), 6000u);
  EXPECT_EQ(Limit("0::/a///\n"), 6000u);
  EXPECT_EQ(Limit("0:://a\n"), 6000u);
  mount_ += '/';
  EXPECT_EQ(Limit("0::/a\n"), 6000u);
  EXPECT_EQ(Limit("0::/\n"), 7000u);
}

TEST_F(Cgroup, NamesMayHoldSpaces) {
  Max("/a b:c", "6000\n");
  EXPECT_EQ(Limit("0::/a b:c\n"), 6000u);
}

TEST_F(Cgroup, ALongPathIsFollowedWhileThereIsRoom) {
  Max("", "7000\n");
  // A path of 1,023 bytes is followed. In the last of these groups there is no room for a file's name.
  for (size_t length = 990; length <= 1023; length++) {
    const std::string group = "/" + std::string(length - mount_.size() - 1, 'x');
    EXPECT_EQ(Limit("0::" + group + "\n"), 7000u) << length;
  }
  for (const size_t length : {1024u, 1025u, 5000u}) {
    const std::string group = "/" + std::string(length - mount_.size() - 1, 'x');
    EXPECT_EQ(Limit("0::" + group + "\n"), 0u) << length;
  }
  std::string deep;
  while (mount_.size() + deep.size() < 980) deep += "/0123456789";
  Max(deep, "6000\n");
  EXPECT_EQ(Limit("0::" + deep + "\n"), 6000u);
  EXPECT_EQ(Limit("0::" + deep + "/x\n"), 6000u);
}

TEST_F(Cgroup, WhatIsNoNumberIsNoLimit) {
  for (const char *text : {"", "\n", "abc\n", "-1\n", "-4096\n", "+4096\n", " 4096\n", "0x1000\n", "4K\n", "12 34\n",
                           "max 4096\n", "18446744073709551616\n", "18446744073709551619\n", "99999999999999999999\n",
                           "100000000000000000000000000000000000000000000000000\n", "0\n"}) {
    Max("/a", text);
    EXPECT_EQ(Limit("0::/a\n"), 0u) << '"' << text << '"';
    High("/a", "5000\n");
    EXPECT_EQ(Limit("0::/a\n"), 5000u) << '"' << text << '"';
    fs::remove(mount_ + "/a/memory.high");
  }
}

TEST_F(Cgroup, NumbersUpToTheLargest) {
  Max("/a", "1");
  EXPECT_EQ(Limit("0::/a\n"), 1u);
  Max("/a", "9223372036854771712\n");
  EXPECT_EQ(Limit("0::/a\n"), 9223372036854771712u);
  Max("/a", "18446744073709551615\n");
  EXPECT_EQ(Limit("0::/a\n"), UINT64_MAX);
  Max("/a", "00000000004096\n");
  EXPECT_EQ(Limit("0::/a\n"), 4096u);
}

TEST(CgroupOfThisProcess, IsTheLimitOfItsGroup) {
  std::ifstream file("/proc/self/cgroup");
  std::stringstream membership;
  membership << file.rdbuf();
  errno = E2BIG;
  const uint64_t limit = hak_os_cgroup_limit();
  EXPECT_EQ(errno, E2BIG);
  EXPECT_EQ(limit, hak_os_cgroup_limit_in("/sys/fs/cgroup", membership.str().c_str()));
}

}  // namespace
