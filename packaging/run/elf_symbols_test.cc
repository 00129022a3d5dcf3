// SPDX-License-Identifier: Apache-2.0
//
// The functions that ELF files define: this test's own file, whole, without section headers, and damaged at random.
#include "packaging/run/elf_symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "allocator/test/test_random.h"

extern "C" {
__attribute__((visibility("default"), used)) int elf_symbols_test_shown(void);
__attribute__((visibility("hidden"), used)) int elf_symbols_test_inside(void);
__attribute__((visibility("default"))) extern int elf_symbols_test_data;
}
int elf_symbols_test_shown(void) { return 1; }
int elf_symbols_test_inside(void) { return 2; }
int elf_symbols_test_data = 3;

namespace {

std::vector<char> OwnFile() {
  std::vector<char> bytes;
  const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  char buffer[65536];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) bytes.insert(bytes.end(), buffer, buffer + n);
  close(fd);
  return bytes;
}

std::vector<elf_definition> Find(const std::vector<char> &bytes, const std::vector<const char *> &names) {
  const int fd = memfd_create("elf_symbols_test", MFD_CLOEXEC);
  EXPECT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  std::vector<elf_definition> found(names.size(), ELF_SHOWN);
  elf_find_functions(fd, names.data(), names.size(), found.data());
  elf_needs(fd, "libhakmem.so");
  close(fd);
  return found;
}

const std::vector<const char *> kNames = {"elf_symbols_test_shown", "elf_symbols_test_inside", "elf_symbols_test_data",
                                          "elf_symbols_test_missing", "malloc"};

// A sanitizer's program defines malloc itself.
std::vector<elf_definition> WithoutMalloc(std::vector<elf_definition> found) {
  found.pop_back();
  return found;
}

TEST(ElfSymbols, AreThoseOfTheFile) {
  // The linker removes what nothing uses.
  int (*volatile const inside)() = elf_symbols_test_inside;
  EXPECT_EQ(inside(), 2);
  const std::vector<elf_definition> expected = {ELF_SHOWN, ELF_INSIDE, ELF_NONE, ELF_NONE};
  EXPECT_EQ(WithoutMalloc(Find(OwnFile(), kNames)), expected);
}

TEST(ElfSymbols, WithoutSectionHeadersAreTheDynamicOnes) {
  std::vector<char> bytes = OwnFile();
  Elf64_Ehdr head;
  memcpy(&head, bytes.data(), sizeof head);
  head.e_shoff = 0;
  head.e_shnum = 0;
  memcpy(bytes.data(), &head, sizeof head);
  const std::vector<elf_definition> expected = {ELF_SHOWN, ELF_NONE, ELF_NONE, ELF_NONE};
  EXPECT_EQ(WithoutMalloc(Find(bytes, kNames)), expected);
}

TEST(ElfSymbols, OfNoFileAreNone) {
  const std::vector<elf_definition> none(kNames.size(), ELF_NONE);
  EXPECT_EQ(Find({}, kNames), none);
  EXPECT_EQ(Find(std::vector<char>(63, 'x'), kNames), none);
  EXPECT_EQ(Find(std::vector<char>(5000, '\xff'), kNames), none);
  std::vector<elf_definition> found(kNames.size(), ELF_SHOWN);
  elf_find_functions(-1, kNames.data(), kNames.size(), found.data());
  EXPECT_EQ(found, none);
}

TEST(ElfSymbols, OfTheFileItselfCanBeMissing) {
  const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  elf_definition found = ELF_NONE;
  EXPECT_TRUE(elf_find_functions(fd, kNames.data(), 1, &found));
  EXPECT_TRUE(elf_needs(fd, "libc.so."));
  EXPECT_TRUE(elf_needs(fd, "libc.so.6"));
  EXPECT_FALSE(elf_needs(fd, "ibc.so.6"));
  EXPECT_FALSE(elf_needs(fd, "libc.so.66"));
  EXPECT_FALSE(elf_needs(fd, "libhakmem.so"));
  close(fd);
  std::vector<char> bytes = OwnFile();
  Elf64_Ehdr head;
  memcpy(&head, bytes.data(), sizeof head);
  head.e_shoff = 0;
  memcpy(bytes.data(), &head, sizeof head);
  const int bare = memfd_create("elf_symbols_test", MFD_CLOEXEC);
  ASSERT_EQ(write(bare, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_FALSE(elf_find_functions(bare, kNames.data(), 1, &found));
  EXPECT_EQ(found, ELF_SHOWN);
  EXPECT_TRUE(elf_needs(bare, "libc.so.6"));
  close(bare);
}

// Reads nothing outside the file, which ends at a page's end or in a page that a sanitizer or the kernel watches.
TEST(ElfSymbols, OfDamagedFilesDoNoHarm) {
  hak_test::Random random(hak_test::TestSeed(1));
  const std::vector<char> good = OwnFile();
  Elf64_Ehdr head;
  memcpy(&head, good.data(), sizeof head);
  for (int round = 0; round < 300; ++round) {
    std::vector<char> bytes = good;
    if (round % 3 == 0) bytes.resize(random.Below(bytes.size()));
    // These tables lead to the others.
    const uint64_t places[] = {0, head.e_shoff, head.e_phoff};
    const uint64_t sizes[] = {sizeof head, uint64_t{head.e_shnum} * sizeof(Elf64_Shdr),
                              uint64_t{head.e_phnum} * sizeof(Elf64_Phdr)};
    for (uint64_t hits = 1 + random.Below(20); hits > 0; --hits) {
      const uint64_t table = random.Below(3);
      const uint64_t at = places[table] + random.Below(sizes[table]);
      if (at < bytes.size()) bytes[at] = static_cast<char>(random.Below(256));
    }
    for (const elf_definition definition : Find(bytes, kNames)) {
      EXPECT_TRUE(definition == ELF_NONE || definition == ELF_INSIDE || definition == ELF_SHOWN);
    }
  }
}

}  // namespace
