// SPDX-License-Identifier: Apache-2.0
//
// The blocks of the load, and the threads that allocate and free them.
#include <errno.h>
#include <hakmem/hakmem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <thread>
#include <vector>

#include "allocator/test/load/load.h"
#include "allocator/test/test_random.h"

namespace hak_test {
namespace {

// At a block's beginning. The byte repeats up to the block's end; large blocks are written and checked at both ends.
struct Head {
  uint64_t size;
  uint64_t mark;
};
constexpr size_t kChecked = 256;

// Unequal for nearly all sizes and addresses, and never what a freed block holds.
uint64_t MarkOf(const void *block, uint64_t size) {
  return Mix64(reinterpret_cast<uintptr_t>(block) ^ (size << 48) ^ 0x5bd1e995);
}

size_t SizeOf(Random *random) {
  const uint64_t kind = random->Below(1000);
  const size_t small = sizeof(Head) + random->Index(1000);
  if (kind < 900) return small;
  if (kind < 990) return 1000 + random->Index(30000);
  if (kind < 999) return 30000 + random->Index(200000);
  return 200000 + random->Index(3000000);
}

void Fill(void *block, size_t size) {
  auto *bytes = static_cast<unsigned char *>(block);
  const Head head = {size, MarkOf(block, size)};
  memcpy(block, &head, sizeof head);
  const auto byte = static_cast<unsigned char>(head.mark);
  const size_t begin = sizeof head;
  memset(bytes + begin, byte, std::min(size - begin, kChecked));
  if (size > begin + kChecked) {
    const size_t end = std::min(size - begin - kChecked, kChecked);
    memset(bytes + size - end, byte, end);
  }
}

void Take(Load *load, void *block, size_t size, int error) {
  if (block != nullptr) {
    load->counters.allocated.fetch_add(1, std::memory_order_relaxed);
    Fill(block, size);
    return;
  }
  if (error != ENOMEM) Wrong(load, "NULL without ENOMEM", static_cast<uint64_t>(error));
  load->counters.refused.fetch_add(1, std::memory_order_relaxed);
}

void *Resize(Load *load, void *block, Random *random) {
  CheckBlock(load, block);
  const size_t size = SizeOf(random);
  void *moved;
  {
    const InsideCall inside;
    moved = hak_realloc(block, size);
  }
  if (moved == nullptr) {
    load->counters.refused.fetch_add(1, std::memory_order_relaxed);
    CheckBlock(load, block);
    return block;
  }
  load->counters.moved.fetch_add(1, std::memory_order_relaxed);
  Fill(moved, size);
  return moved;
}

// The life of one worker: own blocks and the slots of all.
void Work(Load *load, uint64_t seed) {
  Random random(seed);
  std::vector<void *> own(64);
  const uint64_t calls = 200 + random.Below(4000);
  for (uint64_t i = 0; i < calls && !load->stop.load(std::memory_order_relaxed); ++i) {
    if (random.OneIn(3)) {
      void *&mine = own[random.Index(own.size())];
      if (mine != nullptr && random.OneIn(4)) {
        mine = Resize(load, mine, &random);
      } else {
        FreeBlock(load, mine, random.Next());
        mine = NewBlock(load, random.Next());
      }
    } else {
      void *block = random.OneIn(2) ? NewBlock(load, random.Next()) : nullptr;
      // Acquire and release: who takes the block sees what its giver wrote.
      block = load->slots[random.Index(Load::kSlots)].exchange(block, std::memory_order_acq_rel);
      FreeBlock(load, block, random.Next());
    }
  }
  // Some are left to others, who free them when this thread has ended.
  for (void *block : own) {
    if (block != nullptr && random.OneIn(2)) {
      block = load->slots[random.Index(Load::kSlots)].exchange(block, std::memory_order_acq_rel);
    }
    FreeBlock(load, block, random.Next());
  }
  StayInside();
}

}  // namespace

// Signal handlers call it too, so it must not allocate, as dprintf does.
void Wrong(Load *load, const char *what, uint64_t detail) {
  char line[200];
  char *at = line;
  const auto add = [&](const char *text, size_t most) { at = std::copy_n(text, std::min(strlen(text), most), at); };
  add("load: ", 6);
  add(what, 160);
  add(" (", 2);
  at = std::to_chars(at, at + 20, detail).ptr;
  add(")\n", 2);
  if (write(STDERR_FILENO, line, static_cast<size_t>(at - line)) < 0) abort();
  load->counters.faults.fetch_add(1, std::memory_order_relaxed);
}

void *NewBlock(Load *load, uint64_t random_bits) {
  Random random(random_bits);
  const size_t size = SizeOf(&random);
  const uint64_t kind = random.Below(8);
  const size_t alignment = size_t{16} << random.Below(9);
  void *block;
  int error;
  {
    const InsideCall inside;
    errno = 0;
    if (kind == 0) {
      block = hak_calloc(1, size);
    } else if (kind == 1) {
      block = hak_aligned_alloc(alignment, size);
    } else {
      block = hak_malloc(size);
    }
    error = errno;
  }
  if (load->planted == Planted::kWrongErrno && random.OneIn(1000)) {
    hak_free(block);
    block = nullptr;
    error = EAGAIN;
  }
  const auto *bytes = static_cast<const unsigned char *>(block);
  if (kind == 0 && block != nullptr && (bytes[0] != 0 || bytes[size / 2] != 0 || bytes[size - 1] != 0)) {
    Wrong(load, "calloc not zero", size);
  }
  if (kind == 1 && reinterpret_cast<uintptr_t>(block) % alignment != 0) Wrong(load, "not aligned", size);
  Take(load, block, size, error);
  return block;
}

void CheckBlock(Load *load, const void *block) {
  Head head;
  memcpy(&head, block, sizeof head);
  if (head.mark != MarkOf(block, head.size)) return Wrong(load, "a block's head changed", head.size);
  const auto *bytes = static_cast<const unsigned char *>(block);
  const auto byte = static_cast<unsigned char>(head.mark);
  const size_t size = static_cast<size_t>(head.size);
  const auto is_not = [byte](unsigned char c) { return c != byte; };
  const size_t begin = std::min(size, sizeof head + kChecked);
  bool changed = std::any_of(bytes + sizeof head, bytes + begin, is_not);
  const size_t end = std::min(size - begin, kChecked);
  changed = changed || std::any_of(bytes + size - end, bytes + size, is_not);
  if (changed) Wrong(load, "a block's contents changed", head.size);
}

void FreeBlock(Load *load, void *block, uint64_t random) {
  if (block == nullptr) return;
  CheckBlock(load, block);
  Head head;
  memcpy(&head, block, sizeof head);
  if (load->planted == Planted::kDamage && head.size > sizeof head && random % 1000 == 0) {
    static_cast<unsigned char *>(block)[head.size - 1] ^= 1;
    CheckBlock(load, block);
  }
  memset(block, 0, sizeof head);  // a second free would be seen
  const InsideCall inside;
  load->counters.freed.fetch_add(1, std::memory_order_relaxed);
  if (load->planted == Planted::kLostFree && random % 1000 == 0) {
    load->counters.freed.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  if (random % 4 == 0) {
    hak_free_sized(block, static_cast<size_t>(head.size));
  } else {
    hak_free(block);
  }
}

void RunWorkers(Load *load, uint64_t seed) {
  Random random(seed);
  while (!load->stop.load(std::memory_order_relaxed)) {
    const uint64_t of_thread = random.Next();
    std::thread([load, of_thread] { Work(load, of_thread); }).join();
    load->counters.threads.fetch_add(1, std::memory_order_relaxed);
  }
  StayInside();
}

}  // namespace hak_test
