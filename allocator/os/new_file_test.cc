// SPDX-License-Identifier: Apache-2.0
//
// Raised privileges need a setuid program, so this test replaces the box that reads them from the kernel.
#include "allocator/os/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "allocator/os/auxv.h"
#include "allocator/os/fault.h"

namespace {

bool secure;

}  // namespace

// Replaces the box's function: this program's own object comes before the archive's.
extern "C" uintptr_t hak_auxv(enum hak_auxv_entry entry) { return entry == HAK_AUXV_SECURE && secure ? 1 : 0; }

namespace {

namespace fs = std::filesystem;

class NewFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "/new_file.XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder + "/file";
  }
  void TearDown() override { fs::remove_all(folder_); }

  int Create(int access = O_WRONLY) const {
    errno = E2BIG;
    const int file = hak_new_file_create(path_.c_str(), access);
    EXPECT_EQ(errno, E2BIG);
    return file;
  }
  static std::string Contents(const std::string &path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  std::string folder_, path_;
};

TEST_F(NewFile, IsForTheUserOnly) {
  const mode_t before = umask(0);
  const int file = Create();
  umask(before);
  ASSERT_GE(file, 0);
  EXPECT_EQ(fcntl(file, F_GETFD), FD_CLOEXEC);
  struct stat status;
  ASSERT_EQ(fstat(file, &status), 0);
  EXPECT_EQ(status.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(status.st_size, 0);
  close(file);
}

TEST_F(NewFile, IsOpenForWhatTheCallerAsks) {
  for (const int access : {O_WRONLY, O_RDWR}) {
    const int file = Create(access);
    ASSERT_GE(file, 0);
    EXPECT_EQ(fcntl(file, F_GETFL) & O_ACCMODE, access);
    close(file);
    errno = E2BIG;
    hak_new_file_remove(path_.c_str());
    hak_new_file_remove(path_.c_str());
    EXPECT_EQ(errno, E2BIG);
    EXPECT_FALSE(fs::exists(path_));
  }
}

TEST_F(NewFile, ThatExistsIsLeftAlone) {
  std::ofstream(path_) << "kept";
  EXPECT_EQ(Create(), -EEXIST);
  EXPECT_EQ(Contents(path_), "kept");
}

TEST_F(NewFile, ThatIsALinkIsNotFollowed) {
  const std::string target = folder_ + "/target";
  fs::create_symlink(target, path_);
  EXPECT_EQ(Create(), -EEXIST);
  EXPECT_FALSE(fs::exists(target));
  std::ofstream(target) << "kept";
  EXPECT_EQ(Create(), -EEXIST);
  EXPECT_EQ(Contents(target), "kept");
}

TEST_F(NewFile, WithRaisedPrivilegesThereIsNone) {
  secure = true;
  EXPECT_EQ(Create(), -EPERM);
  secure = false;
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(NewFile, InAFolderThatIsNone) {
  path_ = folder_ + "/no/file";
  EXPECT_EQ(Create(), -ENOENT);
}

TEST_F(NewFile, ACallThatFailsCreatesNothing) {
  hak_fault_set(HAK_FAULT_ASK, 1, 1);
  EXPECT_EQ(Create(), -ENOMEM);
  hak_fault_clear();
  EXPECT_FALSE(fs::exists(path_));
}

}  // namespace
