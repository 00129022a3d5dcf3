// SPDX-License-Identifier: Apache-2.0
//
// A linear overflow from a superslab's last block reaches the records in the head of the next superslab. Whatever links
// it writes there, the allocator ends the process with one line before it writes anything through them. The target of
// the attack is in memory that the test shares with the attacked process.
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "allocator/slab/slab.h"
#include "allocator/test/subprocess.h"

namespace hak_test {
namespace {

constexpr size_t kTargetBytes = 2 * HAK_SUPERSLAB_SIZE;

enum class Victim { kSuperslabList, kPurgeQueue, kSlabList };
enum class Value { kNoRecord, kLikeARecord, kNull };

struct Attack {
  Victim victim;
  Value next;
  Value prev;
};

// Where an attacker may point a link: anywhere in the attacker's own memory, or at something that looks like a record.
template <typename Record>
Record *Chosen(Value value, char *target, size_t offset, size_t no_record) {
  if (value == Value::kNull) return nullptr;
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(target) + HAK_SUPERSLAB_SIZE - 1) & ~(HAK_SUPERSLAB_SIZE - 1);
  return reinterpret_cast<Record *>(aligned + (value == Value::kLikeARecord ? offset : no_record));
}

// The size of blocks of which two fill a slab, and the number of superslabs.
constexpr size_t kHalfSlab = 30000;
constexpr size_t kHalves = size_t{2} * 31 * 6;

// Superslabs with slabs in use and free ones, several on each list.
std::vector<void *> Fill() {
  std::vector<void *> blocks;
  for (size_t i = 0; i < kHalves; ++i) blocks.push_back(hak_malloc(kHalfSlab));
  for (int i = 0; i < 64 * 40; ++i) blocks.push_back(hak_malloc(1024));
  for (void *block : blocks) memset(block, 1, 64);
  return blocks;
}

int Suffer(const Attack &attack, char *target) {
  std::vector<void *> blocks = Fill();
  // Half of the slabs free, so that there are lists and a queue.
  const auto is_first = [](size_t i) { return i < kHalves ? i % 4 < 2 : i % 2 == 0; };
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (is_first(i)) hak_free(blocks[i]);
  }
  hak_thread_flush();
  const size_t at = attack.victim == Victim::kSlabList ? blocks.size() - 501 : kHalves * 2 / 3 + 3;
  struct hak_superslab *ss = hak_superslab_of(blocks[at]);
  struct hak_slab *slab = hak_slab_of(blocks[at]);
  switch (attack.victim) {
    case Victim::kSuperslabList:
      ss->next = Chosen<struct hak_superslab>(attack.next, target, 0, 0x1000);
      ss->prev = Chosen<struct hak_superslab>(attack.prev, target, 0, 0x2000);
      break;
    case Victim::kPurgeQueue:
      ss->purge_next = Chosen<struct hak_superslab>(attack.next, target, 0, 0x1000);
      ss->purge_prev = Chosen<struct hak_superslab>(attack.prev, target, 0, 0x2000);
      break;
    case Victim::kSlabList:
      slab->next = Chosen<struct hak_slab>(attack.next, target, offsetof(struct hak_superslab, slabs[3]), 0x1000);
      slab->prev = Chosen<struct hak_slab>(attack.prev, target, offsetof(struct hak_superslab, slabs[5]), 0x2000);
      break;
  }
  // Steps that move the record to another list, or read past it.
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!is_first(i)) hak_free(blocks[i]);
  }
  hak_thread_flush();
  for (int i = 0; i < 300; ++i) blocks.push_back(hak_malloc(i % 2 == 0 ? 1024 : kHalfSlab));
  hak_trim(0);
  return 0;
}

class Links : public testing::TestWithParam<Attack> {};

TEST_P(Links, NobodyWritesThroughThem) {
  if (HAK_HARDENED) GTEST_SKIP() << "records are out of reach";
  const Attack attack = GetParam();
  if (HAK_GUARDED && attack.victim != Victim::kSlabList) GTEST_SKIP() << "large blocks are in no superslab";
  void *shared = mmap(nullptr, kTargetBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  char *target = static_cast<char *>(shared);
  const Outcome outcome = RunForked([&] { return Suffer(attack, target); });
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.signal, SIGABRT) << outcome;
  const std::string line = attack.victim == Victim::kSuperslabList ? "hakmem: corrupted list of superslabs: 0x"
                           : attack.victim == Victim::kPurgeQueue  ? "hakmem: corrupted purge queue: 0x"
                                                                   : "hakmem: corrupted list of slabs: 0x";
  EXPECT_EQ(outcome.err.compare(0, line.size(), line), 0) << outcome;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << "more than one line: " << outcome;
  size_t changed = 0;
  for (size_t i = 0; i < kTargetBytes; ++i) changed += target[i] != 0;
  EXPECT_EQ(changed, 0u) << "the attacked process wrote where the links pointed";
  munmap(shared, kTargetBytes);
}

std::vector<Attack> Attacks() {
  std::vector<Attack> attacks;
  for (Victim victim : {Victim::kSuperslabList, Victim::kPurgeQueue, Victim::kSlabList}) {
    for (Value next : {Value::kNoRecord, Value::kLikeARecord, Value::kNull}) {
      for (Value prev : {Value::kNoRecord, Value::kLikeARecord, Value::kNull}) {
        if (next != Value::kNull || prev != Value::kNull) attacks.push_back({victim, next, prev});
      }
    }
  }
  return attacks;
}

INSTANTIATE_TEST_SUITE_P(All, Links, testing::ValuesIn(Attacks()));

// Without an attack the same steps succeed, so the failures above come from the checks.
TEST(LinksUntouched, AreFollowed) {
  const Outcome outcome = RunForked([] {
    std::vector<void *> blocks = Fill();
    for (size_t i = 0; i < blocks.size(); i += 2) hak_free(blocks[i]);
    hak_thread_flush();
    for (size_t i = 1; i < blocks.size(); i += 2) hak_free(blocks[i]);
    hak_trim(0);
    return hak_heap_verify() ? 0 : 1;
  });
  EXPECT_EQ(outcome.exit_code, 0) << outcome;
  EXPECT_EQ(outcome.err, "");
}

}  // namespace
}  // namespace hak_test
