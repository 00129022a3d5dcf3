// SPDX-License-Identifier: Apache-2.0
#include "allocator/pprof/profile_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "allocator/os/fault.h"
#include "allocator/os/new_file.h"

namespace {

namespace fs = std::filesystem;

class ProfileFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/profile.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder + "/p.pb.gz";
  }
  void TearDown() override { fs::remove_all(folder_); }

  int Create() const { return hak_new_file_create(path_.c_str(), O_WRONLY); }
  static std::string Contents(const std::string &path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::string folder_, path_;
};

TEST_F(ProfileFile, IsWrittenAndClosed) {
  int file = Create();
  ASSERT_GE(file, 0);
  EXPECT_EQ(hak_pprof_write(&file, "abc", 3), 0);
  EXPECT_EQ(hak_pprof_write(&file, "", 0), 0);
  EXPECT_EQ(hak_pprof_write(&file, "def", 3), 0);
  EXPECT_EQ(hak_pprof_close(file, path_.c_str(), 0), 0);
  EXPECT_EQ(fcntl(file, F_GETFD), -1);
  EXPECT_EQ(Contents(path_), "abcdef");
}

TEST_F(ProfileFile, ThatIsCutShortIsRemoved) {
  int file = Create();
  ASSERT_GE(file, 0);
  hak_fault_set(HAK_FAULT_ASK, 2, 1);
  EXPECT_EQ(hak_pprof_write(&file, "abc", 3), 0);
  EXPECT_EQ(hak_pprof_write(&file, "def", 3), ENOMEM);
  hak_fault_clear();
  EXPECT_EQ(hak_pprof_close(file, path_.c_str(), ENOMEM), ENOMEM);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(ProfileFile, AFullDeviceIsAnError) {
  int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  EXPECT_EQ(hak_pprof_write(&full, "abc", 3), ENOSPC);
  close(full);
  int closed = full;
  EXPECT_EQ(hak_pprof_write(&closed, "abc", 3), EBADF);
  EXPECT_EQ(hak_pprof_close(closed, path_.c_str(), 0), EBADF);
}

TEST_F(ProfileFile, ShortWritesAreRepeated) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string text(1000000, 'x');
  const pid_t child = fork();
  if (child == 0) {
    char bytes[999];
    size_t got = 0;
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], bytes, sizeof bytes)) > 0;) got += static_cast<size_t>(n);
    _exit(got == text.size() ? 0 : 1);
  }
  close(ends[0]);
  EXPECT_EQ(hak_pprof_write(&ends[1], text.data(), text.size()), 0);
  close(ends[1]);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- Paths -----------------------------------------------------------------------------------------

std::string Path(const char *pattern, size_t size = 100, uint64_t pid = 4711, uint64_t number = 0) {
  std::string path(100, '#');
  const bool is_good = hak_pprof_path(path.data(), size, pattern, pid, number);
  EXPECT_EQ(path.find_last_not_of('#') < size || path[0] == '#', true);
  return is_good ? path.c_str() : size == 0 || path[0] == '\0' ? "refused" : "refused, and not emptied";
}

TEST(ProfilePath, NamesTheProcessAndTheNumber) {
  EXPECT_EQ(Path("/tmp/a.pb.gz"), "/tmp/a.pb.gz");
  EXPECT_EQ(Path("a.%p.%n.pb.gz"), "a.4711.0.pb.gz");
  EXPECT_EQ(Path("%p%%%p"), "4711%4711");
  EXPECT_EQ(Path("%n", 100, 1, UINT64_MAX), "18446744073709551615");
  EXPECT_EQ(Path(""), "");
}

TEST(ProfilePath, RefusesOtherLettersAndWhatDoesNotFit) {
  for (const char *pattern : {"%", "a%", "%x", "%p%", "% p", "%P"}) EXPECT_EQ(Path(pattern), "refused") << pattern;
  EXPECT_EQ(Path("a.%p", 7), "a.4711");
  for (size_t size = 0; size < 7; size++) EXPECT_EQ(Path("a.%p", size), "refused") << size;
}

}  // namespace
