// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/random_driver.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace hak_test {
namespace {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

size_t AroundOf(size_t centre, Random *random) { return centre + random->Index(3) - 1; }

// One new block by a random call.
bool Allocate(HeapModel *model, const SizeSource &sizes, Random *random, Block *out) {
  const size_t size = sizes.Next(random);
  switch (random->Below(16)) {
    case 0:
    case 1: {
      // The product of count and size varies, so that both arguments matter.
      const size_t count = 1 + random->Index(9);
      return model->Calloc(count, size / count, out);
    }
    case 2:
      return model->Zalloc(size, out);
    case 3:
      return model->ReallocNull(size, out);
    case 4:
      return model->AlignedAlloc(size_t{1} << random->Index(13), size, out);
    case 5:
      return model->PosixMemalign(size_t{8} << random->Index(10), size, out);
    case 6:
      return model->Memalign(1 + random->Index(300), size, out);
    case 7:
      // Large alignments are rare in programs and in this test, but have a code path of their own.
      if (random->OneIn(16))
        return model->AlignedAlloc(size_t{1} << (13 + random->Index(10)), size % (128 * kKiB), out);
      return model->Calloc(size, 1, out);
    default:
      return model->Malloc(size, out);
  }
}

// One random call on a live block. If block->p is null afterwards, the block was freed.
void Change(HeapModel *model, const SizeSource &sizes, Random *random, Block *block) {
  switch (random->Below(12)) {
    case 0:
    case 1:
      model->Realloc(block, sizes.Next(random));
      return;
    case 2: {
      const size_t step = random->Index(64);
      model->Realloc(block,
                     random->OneIn(2) ? block->requested + step : block->requested - std::min(step, block->requested));
      return;
    }
    case 3: {
      const size_t count = 1 + random->Index(7);
      model->ReallocArray(block, count, sizes.Next(random) / count);
      return;
    }
    case 4:
      model->ReallocInPlace(block, 1 + sizes.Next(random));
      return;
    case 5:
      model->Audit(*block);
      return;
    case 6:
    case 7:
      model->FreeSized(*block);
      break;
    default:
      model->Free(*block);
      break;
  }
  block->p = nullptr;
}

void FreeAll(HeapModel *model, std::vector<Block> *blocks) {
  for (Block &block : *blocks) {
    if (block.p == nullptr || !model->ok()) continue;
    model->Free(block);
    block.p = nullptr;
  }
}

}  // namespace

SizeSource::SizeSource(HeapModel *model) {
  for (size_t size = 1; size <= 64 * kKiB;) {
    const size_t edge = model->api().good_size(size);
    if (edge < size || model->api().good_size(edge) != edge) {
      model->Report(Oracle::kUsable, "good_size(" + std::to_string(size) + ") is " + std::to_string(edge) +
                                         ", which is too small or not a good size itself");
      break;
    }
    edges_.push_back(edge);
    if (edge <= kKiB) small_edges_ = edges_.size();
    size = edge + 1;
  }
  if (edges_.empty()) edges_.push_back(16);
  small_edges_ = std::max<size_t>(small_edges_, 1);
}

size_t SizeSource::Next(Random *random) const {
  const uint64_t kind = random->Below(1000);
  if (kind < 400) return AroundOf(edges_[random->Index(small_edges_)], random);
  if (kind < 700) return random->Index(kKiB + 1);
  if (kind < 880) return AroundOf(edges_[random->Index(edges_.size())], random);
  if (kind < 960) return AroundOf(4 * kKiB * (1 + random->Index(16)), random);
  if (kind < 980) return AroundOf(random->OneIn(2) ? 32 * kKiB : 64 * kKiB, random);
  if (kind < 994) return 32 * kKiB + random->Index(480 * kKiB);
  if (kind < 997) return AroundOf(kMiB, random);
  if (kind < 999) return AroundOf(2 * kMiB, random);
  return kMiB + random->Index(2 * kMiB);
}

void RunSingle(HeapModel *model, const SingleOptions &options) {
  const SizeSource sizes(model);
  Random random(options.seed);
  std::vector<Block> slots(options.slots);
  for (uint64_t op = 1; op <= options.operations && model->ok(); ++op) {
    Block &slot = slots[random.Index(slots.size())];
    if (slot.p == nullptr) {
      Allocate(model, sizes, &random, &slot);
    } else {
      Change(model, sizes, &random, &slot);
    }
    if (random.OneIn(64)) {
      const Block &other = slots[random.Index(slots.size())];
      if (other.p != nullptr && model->ok()) model->Audit(other);
    }
    if (random.OneIn(3000)) model->api().thread_flush();
    if (random.OneIn(6000)) model->api().trim(random.OneIn(2) ? 0 : kMiB);
    if (op % options.verify_every == 0 && model->ok()) {
      model->CheckVerify();
      model->CheckStatistics();
      Block live;
      if (options.overflow_grid && model->Malloc(sizes.Next(&random), &live)) {
        model->CheckOverflowGrid(live);
        if (model->ok()) model->Free(live);
      }
    }
  }
  FreeAll(model, &slots);
  if (!model->ok()) return;
  model->CheckStatistics();
  model->CheckVerify();
}

namespace {

// Blocks in transit from one thread to another.
class Mailbox {
 public:
  void Put(const Block &block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks_.push_back(block);
  }
  bool Take(Block *out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (blocks_.empty()) return false;
    *out = blocks_.back();
    blocks_.pop_back();
    return true;
  }
  std::vector<Block> TakeAll() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(blocks_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

struct Shared {
  explicit Shared(HeapModel *heap) : model(heap), sizes(heap) {}
  HeapModel *model;
  SizeSource sizes;
  std::vector<Mailbox> mailboxes;
  Mailbox orphans;  // the blocks that threads of earlier rounds held when they ended
};

void Worker(Shared *shared, const ThreadsOptions &options, size_t self, uint64_t seed) {
  HeapModel *model = shared->model;
  Random random(seed);
  std::vector<Block> slots(options.slots);
  for (Block &slot : slots) {
    if (random.OneIn(3) && !shared->orphans.Take(&slot)) break;
  }
  for (uint64_t op = 0; op < options.operations && model->ok(); ++op) {
    Block &slot = slots[random.Index(slots.size())];
    if (slot.p == nullptr) {
      if (!shared->mailboxes[self].Take(&slot)) Allocate(model, shared->sizes, &random, &slot);
    } else if (random.Below(100) < options.remote_percent) {
      shared->mailboxes[random.Index(shared->mailboxes.size())].Put(slot);
      slot.p = nullptr;
    } else {
      Change(model, shared->sizes, &random, &slot);
    }
    if (random.OneIn(2000)) model->api().thread_flush();
    if (random.OneIn(4000)) model->api().trim(0);
    if (random.OneIn(2000) && model->ok()) model->CheckVerify();
  }
  // Half of the blocks are freed, half outlive the thread.
  for (Block &slot : slots) {
    if (slot.p == nullptr || !model->ok()) continue;
    if (random.OneIn(2)) {
      model->Free(slot);
    } else {
      shared->orphans.Put(slot);
    }
  }
}

}  // namespace

void RunThreads(HeapModel *model, const ThreadsOptions &options) {
  Shared shared(model);
  shared.mailboxes = std::vector<Mailbox>(options.threads);
  for (size_t round = 0; round < options.rounds && model->ok(); ++round) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < options.threads; ++i) {
      threads.emplace_back(Worker, &shared, options, i, Mix64(options.seed * 1000 + round) + i);
    }
    for (std::thread &thread : threads) thread.join();
    if (!model->ok()) return;
    model->CheckStatistics();
    model->CheckVerify();
  }
  for (Mailbox &mailbox : shared.mailboxes) {
    std::vector<Block> left = mailbox.TakeAll();
    FreeAll(model, &left);
  }
  std::vector<Block> left = shared.orphans.TakeAll();
  FreeAll(model, &left);
  if (!model->ok()) return;
  model->CheckStatistics();
  model->CheckVerify();
}

}  // namespace hak_test
