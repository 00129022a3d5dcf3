// SPDX-License-Identifier: Apache-2.0
#include "fuzz/cgroup_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "fuzz/fuzz_target.h"

namespace hak_fuzz {
namespace {

// The value that errno has before every call.
constexpr int kErrnoBefore = 4242;

const char *const kFolders[] = {"", "/a", "/a/b"};
const char *const kFiles[] = {"/memory.high", "/memory.max"};

std::vector<std::string> Parts(const uint8_t *data, size_t size) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < size; ++i) {
    if (data[i] != 0) {
      parts.back() += static_cast<char>(data[i]);
    } else {
      parts.emplace_back();
    }
  }
  parts.resize(7);
  return parts;
}

// The limit in a file, 0 for none: the digits up to the end of a line, within the first 31 characters.
uint64_t Limit(const std::string &whole) {
  const std::string text = whole.substr(0, 31);
  const std::string digits = text.substr(0, text.find_first_not_of("0123456789"));
  if (digits.size() < text.size() && text[digits.size()] != '\n') return 0;
  unsigned __int128 value = 0;
  for (const char digit : digits) {
    value = value * 10 + static_cast<unsigned>(digit - '0');
    if (value > UINT64_MAX) return 0;
  }
  return static_cast<uint64_t>(value);
}

// The path after "0::" on the first line that has it, without slashes at its end.
bool Group(const std::string &membership, std::string *group) {
  size_t begin = 0;
  for (;;) {
    const size_t end = membership.find('\n', begin);
    const std::string line = membership.substr(begin, end - begin);
    if (line.compare(0, 4, "0::/") == 0) {
      *group = line.substr(3);
      while (!group->empty() && group->back() == '/') group->pop_back();
      return true;
    }
    if (end == std::string::npos) return false;
    begin = end + 1;
  }
}

uint64_t Expected(const std::vector<std::string> &parts, size_t mount_length) {
  std::string group;
  if (!Group(parts[0], &group)) return 0;
  if (mount_length + 512 >= 1024) return 0;
  size_t deepest = 0;
  if (group == kFolders[1]) deepest = 1;
  if (group == kFolders[2]) deepest = 2;
  uint64_t least = 0;
  for (size_t i = 0; i <= deepest; ++i) {
    for (size_t file = 0; file < 2; ++file) {
      const uint64_t limit = Limit(parts[1 + i * 2 + file]);
      if (limit != 0 && (least == 0 || limit < least)) least = limit;
    }
  }
  return least;
}

// Whether Expected knows all parts of the path: other groups may be reached by "..", or share a prefix.
bool Plain(const std::string &membership) {
  std::string group;
  if (!Group(membership, &group)) return true;
  return group.empty() || group == kFolders[1] || group == kFolders[2];
}

class Tree {
 public:
  explicit Tree(const std::vector<std::string> &parts) {
    char path[] = "/tmp/cgroup_fuzzer_XXXXXX";
    if (mkdtemp(path) == nullptr) return;
    root_ = path;
    for (size_t i = 0; i < 3; ++i) {
      if (i != 0) mkdir((root_ + kFolders[i]).c_str(), 0700);
      for (size_t file = 0; file < 2; ++file) Write(root_ + kFolders[i] + kFiles[file], parts[1 + i * 2 + file]);
    }
  }
  ~Tree() {
    for (size_t i = 3; i-- > 0;) {
      for (const char *file : kFiles) unlink((root_ + kFolders[i] + file).c_str());
      rmdir((root_ + kFolders[i]).c_str());
    }
  }
  Tree(const Tree &) = delete;
  Tree &operator=(const Tree &) = delete;

  const std::string &Root() const { return root_; }

 private:
  static void Write(const std::string &path, const std::string &text) {
    if (text.empty()) return;
    FILE *file = fopen(path.c_str(), "w");
    if (file == nullptr) return;
    fwrite(text.data(), 1, text.size(), file);
    fclose(file);
  }

  std::string root_;
};

}  // namespace

void RunCgroupInput(const CgroupCalls &calls, const uint8_t *data, size_t size) {
  if (size > 512) return;
  const std::vector<std::string> parts = Parts(data, size);
  const Tree tree(parts);
  if (tree.Root().empty()) return;
  errno = kErrnoBefore;
  const uint64_t limit = calls.limit_in(tree.Root().c_str(), parts[0].c_str());
  Check(errno == kErrnoBefore, "hak_os_cgroup_limit_in sets errno");
  if (Plain(parts[0])) Check(limit == Expected(parts, tree.Root().size()), "another limit than the files say");
  // A group whose path is too long to be followed, and this machine's own group.
  const std::string long_mount(1000, 'x');
  Check(calls.limit_in(long_mount.c_str(), ("0::/" + std::string(100, 'y')).c_str()) == 0, "a path too long");
  calls.limit();
  Check(errno == kErrnoBefore, "hak_os_cgroup_limit sets errno");
}

}  // namespace hak_fuzz
