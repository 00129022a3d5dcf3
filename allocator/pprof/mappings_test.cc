// SPDX-License-Identifier: Apache-2.0
#include "allocator/pprof/mappings.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/os/os.h"

namespace {

struct Mapping {
  uint64_t start, limit, offset;
  std::string file, build_id;
  bool operator==(const Mapping &other) const {
    return start == other.start && limit == other.limit && offset == other.offset && file == other.file &&
           build_id == other.build_id;
  }
};
using Mappings = std::vector<Mapping>;

void PrintTo(const Mapping &mapping, std::ostream *out) {
  *out << std::hex << mapping.start << "-" << mapping.limit << " " << mapping.offset << " " << mapping.file << " "
       << mapping.build_id;
}

void Collect(const hak_mapping *mapping, void *context) {
  static_cast<Mappings *>(context)->push_back(
      {mapping->start, mapping->limit, mapping->offset, mapping->file, mapping->build_id});
}

// What the text of a list says, fed in parts of so many bytes.
Mappings Parse(const std::string &text, size_t part = 4096, int memory = -1) {
  Mappings found;
  const auto room = std::make_unique<hak_mappings>();
  hak_mappings_begin(room.get(), Collect, &found, memory);
  for (size_t at = 0; at < text.size(); at += part) {
    hak_mappings_feed(room.get(), text.data() + at, std::min(part, text.size() - at));
  }
  return found;
}

constexpr char kList[] =
    "00400000-00401000 r--p 00000000 fe:01 12 /bin/a\n"
    "00401000-00402000 r-xp 00001000 fe:01 12                                /bin/a\n"
    "00402000-00403000 rw-p 00002000 fe:01 12 /bin/a\n"
    "01000000-01021000 rw-p 00000000 00:00 0                                  [heap]\n"
    "7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n"
    "7f0000002000-7f0000003000 --xp 00000000 00:00 0 /a b/c (deleted)\n"
    "7fff00000000-7fff00002000 r-xp 00000000 00:00 0                          [vdso]\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
const Mappings kFound = {{0x401000, 0x402000, 0x1000, "/bin/a", ""},
                         {0x7f0000002000, 0x7f0000003000, 0, "/a b/c", ""},
                         {0x7fff00000000, 0x7fff00002000, 0, "[vdso]", ""}};

TEST(Mappings, OfFilesWithCodeAreFound) {
  for (const size_t part : {size_t{1}, size_t{7}, size_t{100}, sizeof kList}) EXPECT_EQ(Parse(kList, part), kFound);
}

TEST(Mappings, LinesThatAreNoneAreLeftOut) {
  const std::string good = "1000-2000 r-xp 0 0:0 0 /good\n";
  const Mappings found = {{0x1000, 0x2000, 0, "/good", ""}};
  for (const char *bad : {"",
                          " ",
                          "-",
                          "1000",
                          "1000-",
                          "1000-2000",
                          "1000-2000 ",
                          "1000-2000 r",
                          "1000-2000 r-xp",
                          "1000-2000 r-xp ",
                          "1000-2000 r-xp 0",
                          "1000-2000 r-xp 0 0",
                          "1000-2000 r-xp 0 0:",
                          "1000-2000 r-xp 0 0:0",
                          "1000-2000 r-xp 0 0:0 ",
                          "1000-2000 r-xp 0 0:0 0",
                          "2000-1000 r-xp 0 0:0 0 /a",
                          "1000-1000 r-xp 0 0:0 0 /a",
                          "1000-2000 r-xp 0 0:0 x /a",
                          "1000-2000 r-xp x 0:0 0 /a",
                          "10000000000000000-20000000000000000 r-xp 0 0:0 0 /a",
                          "1000-2000 r--p 0 0:0 0 /a",
                          "1000-2000 r-xp 0 0:0 0 a",
                          "1000-2000r-xp 0 0:0 0 /a",
                          "1000-2000 r-xp 0 0:0 99999999999999999999 /a"}) {
    EXPECT_EQ(Parse(bad + std::string("\n") + good), found) << bad;
  }
  EXPECT_EQ(Parse("1000-2000 r-xp 0 0:0 0 /no_newline"), Mappings());
}

TEST(Mappings, ALineThatIsTooLongIsLeftOutAlone) {
  const std::string head = "1000-2000 r-xp 0 0:0 0 ";
  const size_t room = sizeof(hak_mappings::line) - 1 - head.size();
  for (const size_t length : {room - 1, room, room + 1, 3 * room}) {
    const std::string file = "/" + std::string(length - 1, 'x');
    Mappings expected = {{0x1000, 0x2000, 0, file, ""}, {0x3000, 0x4000, 0, "/next", ""}};
    if (length > room) expected.erase(expected.begin());
    EXPECT_EQ(Parse(head + file + "\n3000-4000 r-xp 0 0:0 0 /next\n", 333), expected) << length;
  }
}

// ---- Build-ids: a file stands for memory, its offsets for addresses -------------------------------

constexpr uint64_t kBase = 0x4000;
constexpr char kMapped[] = "00004000-00005000 r-xp 00000000 00:01 7 /file\n";

// In a process of its own, whose main thread ends.
void *ReadWithoutMain(void *) {
  char state[64] = {};
  for (int i = 0; i < 10000 && strstr(state, ") Z ") == nullptr; i++) {
    usleep(1000);
    const int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && read(file, state, sizeof state - 1) < 0) state[0] = '\0';
    close(file);
  }
  const auto mappings = std::make_unique<hak_mappings>();
  Mappings found;
  const bool is_whole = hak_mappings_read(mappings.get(), Collect, &found);
  _exit(is_whole && !found.empty() && hak_os_resident_bytes() != 0 ? 0 : 1);
}

TEST(OwnMappings, AreReadAfterTheMainThreadHasEnded) {
  const pid_t child = fork();
  if (child == 0) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, ReadWithoutMain, nullptr) != 0) _exit(2);
    syscall(SYS_exit, 0);  // this thread only
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

class BuildId : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "/memory.XXXXXX";
    memory_ = mkstemp(path.data());
    ASSERT_GE(memory_, 0);
    unlink(path.c_str());
    memcpy(file_.e_ident, ELFMAG, SELFMAG);
    file_.e_ident[EI_CLASS] = ELFCLASS64;
    file_.e_phoff = sizeof file_;
    file_.e_phentsize = sizeof(Elf64_Phdr);
    file_.e_phnum = 2;
    headers_[0].p_type = PT_LOAD;
    headers_[0].p_vaddr = 0x10000;
    headers_[1].p_type = PT_NOTE;
    headers_[1].p_vaddr = 0x10400;
    headers_[1].p_align = 4;
    Note(NT_GNU_ABI_TAG, std::string("GNU\0", 4), "0123456789abcdef");
    Note(NT_GNU_BUILD_ID, std::string("GNU\0", 4), "\x01\x23\xab");
  }
  void TearDown() override { close(memory_); }

  void Note(uint32_t type, const std::string &name, const std::string &description) {
    const Elf64_Nhdr head = {static_cast<Elf64_Word>(name.size()), static_cast<Elf64_Word>(description.size()), type};
    notes_.append(reinterpret_cast<const char *>(&head), sizeof head);
    const size_t align = headers_[1].p_align;
    for (const std::string &part : {name, description}) {
      notes_ += part;
      while (notes_.size() % align != 0) notes_ += '\0';
    }
    headers_[1].p_filesz = notes_.size();
  }

  std::string Read() {
    EXPECT_EQ(ftruncate(memory_, 0), 0);
    Write(kBase, &file_, sizeof file_);
    Write(kBase + sizeof file_, headers_, sizeof headers_);
    Write(kBase + 0x400, notes_.data(), notes_.size());
    const Mappings found = Parse(kMapped, 4096, memory_);
    return found.size() == 1 ? found[0].build_id : "no mapping";
  }

  Elf64_Ehdr file_ = {};
  Elf64_Phdr headers_[2] = {};
  std::string notes_;
  int memory_ = -1;

 private:
  void Write(uint64_t at, const void *bytes, size_t size) {
    EXPECT_EQ(pwrite(memory_, bytes, size, static_cast<off_t>(at)), static_cast<ssize_t>(size));
  }
};

TEST_F(BuildId, IsFoundBehindAnotherNote) { EXPECT_EQ(Read(), "0123ab"); }

TEST_F(BuildId, WithNotesAlignedToEight) {
  notes_.clear();
  headers_[1].p_align = 8;
  Note(5, std::string("GNU\0", 4), "123");
  // The head of 12 bytes and the name together are aligned, as in notes of properties.
  notes_.clear();
  const std::string head("\x04\0\0\0\x02\0\0\0\x03\0\0\0GNU\0\xfe\xdc", 18);
  notes_ = head;
  headers_[1].p_filesz = notes_.size();
  EXPECT_EQ(Read(), "fedc");
}

TEST_F(BuildId, OfTheGreatestLength) {
  notes_.clear();
  Note(NT_GNU_BUILD_ID, std::string("GNU\0", 4), std::string(64, '\x5a'));
  std::string expected;
  for (int i = 0; i < 64; i++) expected += "5a";
  EXPECT_EQ(Read(), expected);
  notes_.clear();
  Note(NT_GNU_BUILD_ID, std::string("GNU\0", 4), std::string(65, '\x5a'));
  EXPECT_EQ(Read(), "");
}

TEST_F(BuildId, OfAnotherOwnerIsNone) {
  notes_.clear();
  Note(NT_GNU_BUILD_ID, std::string("GNX\0", 4), "abc");
  Note(NT_GNU_BUILD_ID, "GNU", "abc");
  Note(NT_GNU_BUILD_ID, std::string("GNU\0", 4), "");
  EXPECT_EQ(Read(), "");
}

TEST_F(BuildId, WhateverIsCutOrWrong) {
  const std::string whole = notes_;
  for (size_t size = 0; size < whole.size(); size++) {
    notes_ = whole.substr(0, size);
    headers_[1].p_filesz = size;
    const std::string found = Read();
    EXPECT_TRUE(found.empty() || size >= whole.size() - 1) << size;
    // The header promises more than there is.
    headers_[1].p_filesz = UINT64_MAX;
    EXPECT_EQ(Read(), found) << size;
  }
  notes_ = whole;
  headers_[1].p_filesz = whole.size();
  for (const uint32_t size : {0xFFFFFFFFu, 0x7FFFFFFFu, 4096u, 100u}) {
    for (const size_t field : {size_t{0}, size_t{4}}) {
      notes_ = whole;
      memcpy(&notes_[field], &size, sizeof size);
      EXPECT_EQ(Read(), "") << size << " " << field;
    }
  }
  notes_ = whole;
  headers_[1].p_vaddr = UINT64_MAX - 8;
  EXPECT_EQ(Read(), "");
  headers_[1].p_vaddr = 0x10400;
  EXPECT_EQ(Read(), "0123ab");
  file_.e_phnum = 65;
  EXPECT_EQ(Read(), "");
  file_.e_phnum = 2;
  file_.e_phoff = UINT64_MAX;
  EXPECT_EQ(Read(), "");
  file_.e_phoff = sizeof file_;
  file_.e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(Read(), "");
  file_.e_ident[EI_CLASS] = ELFCLASS64;
  file_.e_ident[0] = 'x';
  EXPECT_EQ(Read(), "");
}

TEST_F(BuildId, IsNotTakenFromAnotherFile) {
  const std::string id = Read();
  ASSERT_EQ(id, "0123ab");
  const std::string first = "00004000-00005000 r--p 00000000 00:01 7 /file\n";
  const auto with = [&](const std::string &text) {
    const Mappings found = Parse(text, 4096, memory_);
    return found.empty() ? "no mapping" : found[0].build_id;
  };
  EXPECT_EQ(with(first + "00005000-00006000 r-xp 00001000 00:01 7 /file\n"), id);
  EXPECT_EQ(with(first + "00005000-00006000 r-xp 00001000 00:01 8 /other\n"), "");
  EXPECT_EQ(with(first + "00005000-00006000 r-xp 00001000 00:02 7 /other\n"), "");
  EXPECT_EQ(with("00005000-00006000 r-xp 00001000 00:01 7 /file\n"), "");
}

// ---- This process ----------------------------------------------------------------------------------

TEST(Mappings, OfThisProcess) {
  Mappings found;
  const auto room = std::make_unique<hak_mappings>();
  errno = E2BIG;
  ASSERT_TRUE(hak_mappings_read(room.get(), Collect, &found));
  EXPECT_EQ(errno, E2BIG);
  const auto here = reinterpret_cast<uintptr_t>(&hak_mappings_feed);
  bool is_found = false;
  for (size_t i = 0; i < found.size(); i++) {
    is_found = is_found || (found[i].start <= here && here < found[i].limit);
    EXPECT_LT(found[i].start, found[i].limit);
    if (i != 0) {
      EXPECT_LE(found[i - 1].limit, found[i].start);
    }
  }
  EXPECT_TRUE(is_found);
}

TEST(Mappings, WithoutProcThereAreNone) {
  Mappings found;
  const auto room = std::make_unique<hak_mappings>();
  hak_fault_set(HAK_FAULT_ASK, 1, 2);
  EXPECT_FALSE(hak_mappings_read(room.get(), Collect, &found));
  EXPECT_TRUE(found.empty());
  // The list can be read, the memory cannot: everything but build-ids.
  hak_fault_set(HAK_FAULT_ASK, 2, 1);
  EXPECT_TRUE(hak_mappings_read(room.get(), Collect, &found));
  hak_fault_clear();
  EXPECT_FALSE(found.empty());
  for (const Mapping &mapping : found) EXPECT_EQ(mapping.build_id, "");
}

}  // namespace
