// SPDX-License-Identifier: Apache-2.0
#include "fuzz/heap_engine.h"

#include <stddef.h>

#include <algorithm>
#include <array>
#include <string>

#include "allocator/os/fault.h"
#include "allocator/policy/config.h"
#include "fuzz/op_mutator.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

using hak_test::AllocatorApi;
using hak_test::Block;
using hak_test::HeapModel;
using hak_test::Oracle;
using hak_test::Violation;

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

// Larger blocks are large ones.
constexpr size_t kSmallMax = 32 * kKiB;

// One record makes about thirty of the impossible requests.
constexpr size_t kGridParts = 64;
// The most bytes that an input may request; beyond that its sizes become small. The model writes and reads every byte.
constexpr size_t kByteBudget = 4 * kMiB;
// The most blocks that bursts may hold together.
constexpr size_t kBurstBlocks = 3000;
// How much more memory than at the start may remain mapped, without records, when everything is freed and trimmed.
constexpr uint64_t kRemainsMax = 4 * kMiB;

// How many of the 256 values of byte 0 stand for each call, in the order of HeapOp.
constexpr std::array<uint8_t, static_cast<size_t>(HeapOp::kCount)> kWeights = {
    33,  // kMalloc
    16,  // kCalloc
    6,   // kZalloc
    6,   // kReallocNull
    10,  // kAlignedAlloc
    8,   // kPosixMemalign
    6,   // kMemalign
    28,  // kRealloc
    8,   // kReallocArray
    12,  // kReallocInPlace
    37,  // kFree
    16,  // kFreeSized
    6,   // kAudit
    6,   // kGoodSize
    20,  // kBurst
    18,  // kDrain
    5,   // kFlush
    3,   // kTrim
    5,   // kCheck
    3,   // kFault
    3,   // kSettings
    1,   // kOverflowGrid
};

constexpr size_t SumOfWeights() {
  size_t sum = 0;
  for (const uint8_t weight : kWeights) sum += weight;
  return sum;
}
static_assert(SumOfWeights() == 256, "every byte stands for a call");

// The largest size of each class of small blocks, ascending. Read from the real allocator even if a variant is tested,
// so that an input means the same for all.
const std::vector<size_t> &Edges() {
  static const std::vector<size_t> edges = [] {
    std::vector<size_t> found;
    for (size_t size = 1; size <= 64 * kKiB;) {
      const size_t edge = hak_good_size(size);
      if (edge < size) break;
      found.push_back(edge);
      size = edge + 1;
    }
    return found;
  }();
  return edges;
}

// The failures of the fault plan before the current call.
uint64_t g_hits_before;

// The lower bits: calls that map or unmap memory. Above them: calls that make pages inaccessible, and calls that the
// allocator can do without.
uint32_t FaultKinds(uint8_t byte) {
  constexpr uint32_t kLower = HAK_FAULT_MAP | HAK_FAULT_COMMIT | HAK_FAULT_DECOMMIT | HAK_FAULT_UNMAP | HAK_FAULT_REMAP;
  static_assert(kLower == 31, "they are the five lowest bits of a byte");
  constexpr uint32_t kWithout =
      HAK_FAULT_TRIM | HAK_FAULT_ADVISE | HAK_FAULT_BARRIER | HAK_FAULT_THREAD | HAK_FAULT_ASK;
  return (byte & kLower) | ((byte & 32) != 0 ? HAK_FAULT_PROTECT : 0) | ((byte & 64) != 0 ? kWithout : 0);
}

bool SystemRefused() { return hak_fault_hits() != g_hits_before; }

class Input {
 public:
  // `traces`: the statistics are part of the trace.
  Input(HeapModel *model, const uint8_t *data, size_t size, bool traces)
      : model_(model), data_(data), count_(std::min(size / kRecord, kHeapOpsMax)), traces_(traces) {}

  void Run() {
    model_->AllowFailures(SystemRefused);
    for (size_t i = 0; i < count_ && model_->ok(); ++i) {
      g_hits_before = hak_fault_hits();
      const uint8_t *record = data_ + i * kRecord;
      Step(record);
      const Block &slot = slots_[record[1] % kHeapSlots];
      Trace(record[0]);
      TraceBlock(slot);
    }
    if (traces_ && model_->ok()) TraceStatistics();
    // Frees must not fail, whatever the system refuses.
    for (Block &block : slots_) FreeBlock(&block);
    for (Block &block : many_) FreeBlock(&block);
    hak_fault_clear();
    model_->AllowFailures(nullptr);
  }

  // A number computed from the results of the calls: sizes and statistics, not addresses.
  uint64_t trace() const { return trace_; }
  // Whether a fault plan made the system refuse memory.
  bool faults() const { return faults_; }

 private:
  void FreeBlock(Block *block, bool nocache = false) {
    if (block->p == nullptr || !model_->ok()) return;
    if (nocache) {
      model_->FreeNoCache(*block);
    } else {
      model_->Free(*block);
    }
    // No other thread allocates here. Of a small block, owns need not know that it is free.
    if (model_->ok() && block->usable > kSmallMax && model_->api().owns(block->p)) {
      model_->Report(Oracle::kOwns, "owns still takes the freed block " + hak_test::Hex(block->p) + " for one");
    }
    block->p = nullptr;
  }

  // Of a large block only that there is one. realloc extends a block where it is if nothing lies behind it, and a block
  // with an alignment has another usable size than one that had to move.
  void TraceBlock(const Block &block) {
    Trace(block.p == nullptr ? 0 : block.usable <= kSmallMax ? block.usable : kSmallMax + 1);
  }
  void Trace(uint64_t value) { trace_ = (trace_ ^ value) * 0x9e3779b97f4a7c15U + (trace_ >> 29); }

  void TraceStatistics() {
    hak_stats stats = {};
    stats.version = HAK_STATS_VERSION;
    if (model_->api().stats_get(&stats) != 0) return;
    Trace(stats.large_blocks);
    Trace(model_->live_blocks());
    for (const Block &block : many_) TraceBlock(block);
  }

  void Settings(const uint8_t *record) {
    switch (record[3] % 8) {
      case 0:
        hak_config.guard_sample = 0;          // nothing random either
        hak_config.decommit_deadline_ms = 0;  // free memory is returned at once
        return;
      case 1:
        hak_config.borrow = !hak_config.borrow && allow_borrow_;
        return;
      case 2:
        hak_config.thread_cache_bytes = record[4] * kKiB * 4;
        return;
      case 3:
        hak_config.lean_decommit = static_cast<hak_decommit_mode>(record[4] % 3);
        hak_config.lean_target_bytes = record[5] % 2 == 0 ? 0 : 2 * kMiB;
        return;
      case 4:
        hak_config.keep_superslabs = record[4] % 3;
        hak_config.keep_free_bytes = record[5] * 64 * kKiB;
        return;
      case 5:
        hak_config.mapping_cache_bytes = record[4] * kMiB / 8;
        return;
      case 6:
        hak_config.thread_cache_share = record[4] % 65;
        return;
      default:
        hak_config.page_purge = !hak_config.page_purge;
        return;
    }
  }

  size_t Afford(size_t size) {
    if (size > budget_) size %= 512;
    budget_ -= std::min(size, budget_);
    return size;
  }

  void Allocate(HeapOp op, const uint8_t *record, Block *out) {
    const size_t size = Afford(DecodeSize(record));
    const unsigned align = record[6];
    switch (op) {
      case HeapOp::kCalloc: {
        const size_t count = 1 + record[7] % 9;
        // Either factor may be the large one, or zero.
        if (record[7] >= 128) {
          model_->Calloc(size / count, count, out);
        } else {
          model_->Calloc(count, size / count, out);
        }
        return;
      }
      case HeapOp::kZalloc:
        model_->Zalloc(size, out);
        return;
      case HeapOp::kReallocNull:
        model_->ReallocNull(size, out);
        return;
      case HeapOp::kAlignedAlloc:
        if (record[7] % 2 != 0) {
          model_->AlignedCalloc(size_t{1} << (align % 23), 1 + record[7] / 32U, size / (1 + record[7] / 32U), out);
        } else {
          model_->AlignedAlloc(size_t{1} << (align % 23), size, out);
        }
        return;
      case HeapOp::kPosixMemalign:
        model_->PosixMemalign(size_t{8} << (align % 20), size, out);
        return;
      case HeapOp::kMemalign:
        model_->Memalign(size_t{1} + align * (1U + record[7] % 64), size, out);
        return;
      default:
        if (record[7] % 4 == 3) {
          model_->MallocNoCache(size, out);
        } else {
          model_->Malloc(size, out);
        }
        return;
    }
  }

  void Change(HeapOp op, const uint8_t *record, Block *block) {
    switch (op) {
      case HeapOp::kRealloc:
        // A third are small steps from the block's size.
        if (record[7] % 3 == 0) {
          const size_t step = record[4] % 64U;
          model_->Realloc(block, record[3] >= 128 ? Afford(block->requested + step)
                                                  : block->requested - std::min(step, block->requested));
        } else if (record[7] % 3 == 2) {
          // Whether a block has a greater alignment by chance, and so stays in place, depends on its colour or slot.
          // These are not the same again.
          const size_t align = traces_ ? alignof(max_align_t) : size_t{1} << (record[6] % 23);
          model_->AlignedRealloc(block, align, Afford(DecodeSize(record)));
        } else {
          model_->Realloc(block, Afford(DecodeSize(record)));
        }
        return;
      case HeapOp::kReallocArray: {
        const size_t count = 1 + record[7] % 7;
        model_->ReallocArray(block, count, Afford(DecodeSize(record)) / count);
        return;
      }
      case HeapOp::kReallocInPlace:
        model_->ReallocInPlace(block, 1 + Afford(DecodeSize(record)));
        return;
      case HeapOp::kFreeSized:
        model_->FreeSized(*block);
        block->p = nullptr;
        return;
      case HeapOp::kAudit:
        model_->Audit(*block);
        // Which blocks move depends on the state of the slabs.
        if (record[7] % 2 != 0 && !traces_) MoveSparse();
        return;
      default:
        FreeBlock(block, record[7] % 4 == 3);
        return;
    }
  }

  void MoveSparse() {
    std::vector<Block *> blocks;
    for (Block &block : slots_) {
      // A block with an alignment would lose it.
      if (block.p != nullptr && block.release == hak_test::Release::kSized) blocks.push_back(&block);
    }
    for (Block &block : many_) blocks.push_back(&block);
    if (model_->ok()) model_->MoveSparse(blocks);
  }

  void GoodSize(size_t size) {
    const AllocatorApi &api = model_->api();
    const size_t good = api.good_size(size);
    if (good < size || api.good_size(good) != good) {
      model_->Report(Oracle::kUsable, "good_size(" + std::to_string(size) + ") is " + std::to_string(good) +
                                          ", which is too small or not a good size itself");
    }
    if (size > 0 && api.good_size(size - 1) > good) {
      model_->Report(Oracle::kUsable, "good_size(" + std::to_string(size) + ") is less than for a byte less");
    }
  }

  void Burst(const uint8_t *record) {
    const size_t size = DecodeSize(record);
    // Mostly a few.
    size_t count = record[7] < 192 ? 1 + record[7] % 16U : 1 + (record[7] - 192U) * 4;
    if (size > 4 * kKiB) count %= 8;
    for (; count > 0 && many_.size() < kBurstBlocks && model_->ok(); --count) {
      Block block;
      if (model_->Malloc(Afford(size), &block)) many_.push_back(block);
    }
  }

  void Drain(const uint8_t *record) {
    const size_t count = std::min(many_.size(), size_t{1} + record[7] * size_t{2});
    std::vector<Block> kept;
    for (size_t i = 0; i < many_.size(); ++i) {
      const bool goes = record[3] % 3 == 0   ? i < count
                        : record[3] % 3 == 1 ? i >= many_.size() - count
                                             : i % 2 == 0 && i / 2 < count;
      if (!goes) kept.push_back(many_[i]);
    }
    // One of the orders is newest first, so that both stacks and queues of free blocks are tested.
    for (size_t i = 0, n = many_.size(); i < n; ++i) {
      const size_t at = record[3] % 3 == 1 ? n - 1 - i : i;
      const bool goes = record[3] % 3 == 0   ? at < count
                        : record[3] % 3 == 1 ? at >= n - count
                                             : at % 2 == 0 && at / 2 < count;
      if (goes) FreeBlock(&many_[at]);
    }
    many_.swap(kept);
  }

  void Step(const uint8_t *record) {
    const HeapOp op = DecodeHeapOp(record[0]);
    Block &slot = slots_[record[1] % kHeapSlots];
    switch (op) {
      case HeapOp::kMalloc:
      case HeapOp::kCalloc:
      case HeapOp::kZalloc:
      case HeapOp::kReallocNull:
      case HeapOp::kAlignedAlloc:
      case HeapOp::kPosixMemalign:
      case HeapOp::kMemalign:
        FreeBlock(&slot);
        if (model_->ok()) Allocate(op, record, &slot);
        return;
      case HeapOp::kRealloc:
      case HeapOp::kReallocArray:
      case HeapOp::kReallocInPlace:
      case HeapOp::kFree:
      case HeapOp::kFreeSized:
      case HeapOp::kAudit:
        if (slot.p == nullptr) {
          Allocate(HeapOp::kMalloc, record, &slot);
        } else {
          Change(op, record, &slot);
        }
        return;
      case HeapOp::kGoodSize:
        GoodSize(DecodeSize(record));
        return;
      case HeapOp::kBurst:
        Burst(record);
        return;
      case HeapOp::kDrain:
        Drain(record);
        return;
      case HeapOp::kFlush:
        model_->api().thread_flush();
        return;
      case HeapOp::kTrim:
        model_->api().trim(record[3] % 2 == 0 ? 0 : record[4] * 64 * kKiB);
        return;
      case HeapOp::kCheck:
        model_->CheckVerify();
        model_->CheckStatistics();
        model_->CheckVisit();
        return;
      case HeapOp::kFault:
        hak_fault_set(FaultKinds(record[2]), 1 + record[4] % 6, 1 + record[7] % 4);
        if ((record[3] & 2) != 0) hak_fault_also(FaultKinds(record[5]), 1 + record[6] % 6, 1 + record[7] % 4);
        g_hits_before = 0;
        faults_ = true;
        return;
      case HeapOp::kSettings:
        Settings(record);
        return;
      case HeapOp::kOverflowGrid:
        if (slot.p == nullptr) Allocate(HeapOp::kMalloc, record, &slot);
        if (model_->ok() && slot.p != nullptr) model_->CheckOverflowGrid(slot, record[7] % kGridParts, kGridParts);
        return;
      case HeapOp::kCount:
        return;
    }
  }

  HeapModel *model_;
  const uint8_t *data_;
  size_t count_;
  bool traces_;
  size_t budget_ = std::min(kByteBudget, (1 + count_) * kByteBudget / 16);  // short inputs must be quick
  bool faults_ = false;
  const bool allow_borrow_ = hak_config.borrow;
  uint64_t trace_ = 0;
  std::array<Block, kHeapSlots> slots_;
  std::vector<Block> many_;
};

hak_stats Statistics(const AllocatorApi &api) {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  // The model checks that this succeeds.
  if (api.stats_get(&stats) != 0) stats.version = 0;
  return stats;
}

}  // namespace

HeapOp DecodeHeapOp(uint8_t byte) {
  size_t op = 0;
  for (size_t rest = byte; rest >= kWeights[op]; ++op) rest -= kWeights[op];
  return static_cast<HeapOp>(op);
}

uint8_t EncodeHeapOp(HeapOp op) {
  size_t sum = 0;
  for (size_t i = 0; i < static_cast<size_t>(op); ++i) sum += kWeights[i];
  return static_cast<uint8_t>(sum);
}

size_t DecodeSize(const uint8_t *record) {
  const size_t kind = record[2];
  const size_t raw = record[4] | static_cast<size_t>(record[5]) << 8;
  // 0 is the smallest size; an edge is at least 16.
  const auto beside = [&](size_t edge) { return edge + record[3] % 3 - 1; };
  const std::vector<size_t> &edges = Edges();
  // Large blocks are rare, because the model writes and reads every byte.
  if (edges.empty()) return raw;
  if (kind < 88) return beside(edges[raw % std::min<size_t>(edges.size(), 32)]);
  if (kind < 136) return raw % (2 * kKiB);
  if (kind < 180) return beside(edges[raw % edges.size()]);
  if (kind < 208) return beside(4 * kKiB * (1 + raw % 16));
  if (kind < 216) {
    // The largest small block, a slab, the largest medium block, a superslab.
    constexpr size_t kThresholds[] = {32 * kKiB, 64 * kKiB, 128 * kKiB, 256 * kKiB, 512 * kKiB, kMiB, 2 * kMiB};
    return beside(kThresholds[raw % std::size(kThresholds)]);
  }
  if (kind < 226) return 32 * kKiB + raw * 8;
  if (kind < 228) return kMiB + raw * 16;
  return raw % 33;
}

HeapEngine::HeapEngine(const AllocatorApi &api, uint64_t rarely) : api_(api), chosen_(rarely) {
  hak_trim(0);
  // Later than any input, so that the clock makes nothing due.
  hak_config.decommit_deadline_ms = uint64_t{1} << 40;
  hak_config.idle_cache_ms = 0;
  hak_config.idle_watch = false;
  hak_config.guard_sample = 0;
  // Calls the allocator itself: a variant with a planted bug begins with the model's statistics.
  const hak_stats stats = Statistics(AllocatorApi{});
  first_cached_ = stats.cached_blocks;
  first_mapped_ = stats.mapped_bytes - stats.metadata_bytes;
}

uint64_t HeapEngine::RunOnce(HeapModel *model, const uint8_t *data, size_t size, bool traces, bool *faults) {
  const struct hak_config settings = hak_config;
  Input input(model, data, size, traces);
  input.Run();
  hak_config = settings;
  *faults = input.faults();
  if (!model->ok()) return 0;
  // So that the next input finds the heap in the same state.
  api_.thread_flush();
  model->CheckStatistics();
  return input.trace();
}

// Only records remain when everything is freed and trimmed.
void HeapEngine::CheckReset(HeapModel *model) {
  const hak_stats flushed = Statistics(api_);
  if (flushed.cached_blocks != first_cached_) {
    model->Report(Oracle::kStatistics, std::to_string(flushed.cached_blocks) +
                                           " blocks cached after thread_flush, not " + std::to_string(first_cached_));
  }
  api_.trim(0);
  model->CheckVerify();
  model->CheckStatistics();
  model->CheckVisit();
  const hak_stats now = Statistics(api_);
  const uint64_t blocks = now.mapped_bytes - now.metadata_bytes;
  if (blocks > first_mapped_ + kRemainsMax) {
    model->Report(Oracle::kStatistics, "mapped memory went from " + std::to_string(first_mapped_) + " to " +
                                           std::to_string(blocks) + " bytes although all is freed");
  }
}

// From the same state, the same calls have the same sizes, failures and statistics. Borrowing is off, because it
// depends on earlier frees.
void HeapEngine::CheckSameAgain(HeapModel *model, const uint8_t *data, size_t size) {
  const bool borrow = hak_config.borrow;
  hak_config.borrow = false;
  bool faults = false;
  uint64_t traces[2];
  for (uint64_t &trace : traces) {
    trace = RunOnce(model, data, size, true, &faults);
    if (model->ok()) api_.trim(0);
  }
  hak_config.borrow = borrow;
  if (model->ok() && traces[0] != traces[1]) {
    model->Report(Oracle::kSameAgain, "the same input gave other sizes or statistics the second time");
  }
}

std::vector<Violation> HeapEngine::Run(const uint8_t *data, size_t size) {
  HeapModel model(api_);
  if (close_blocks_) model.CloseLiveBlocks();
  const bool chosen = chosen_.Chooses(data, size);
  if (!chosen) model.CheckSparsely();
  bool faults = false;
  RunOnce(&model, data, size, false, &faults);
  if (!model.ok() || !chosen) return model.violations();
  CheckReset(&model);
  // Which calls fail depends on the system calls that are made, and these depend on the caches.
  if (model.ok() && !faults) CheckSameAgain(&model, data, size);
  return model.violations();
}

}  // namespace hak_fuzz
