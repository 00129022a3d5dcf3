// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/heap_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "allocator/test/test_random.h"

// Defined in builds with AddressSanitizer, even if this file itself is built without it (.bazelrc).
extern "C" void __asan_poison_memory_region(const volatile void *start, size_t size) __attribute__((weak));
extern "C" void __asan_unpoison_memory_region(const volatile void *start, size_t size) __attribute__((weak));

namespace hak_test {
namespace {

// Called through variables: OSS-Fuzz counts calls of __asan by name, and refuses builds for other sanitizers that have
// any.
using RegionCall = void (*)(const volatile void *start, size_t size);
const volatile RegionCall poison_region = __asan_poison_memory_region;
const volatile RegionCall unpoison_region = __asan_unpoison_memory_region;

// Eight bytes of a block's contents. They are never constant, and differ for each block, so that a stale or foreign
// byte is noticed. Only one multiplication, because most of a run's time is spent here.
uint64_t PatternWord(uint64_t id, size_t word) {
  const uint64_t x = ((id << 32) + word + 1) * 0x9e3779b97f4a7c15U;
  return x ^ (x >> 29);
}

// Bytes begin to end - 1 of the contents; `begin` is a multiple of 8.
void FillPattern(unsigned char *p, uint64_t id, size_t begin, size_t end) {
  size_t word = begin / 8;
  // Whole words have a constant size, so the compiler makes one store of it.
  for (; word < end / 8; ++word) {
    const uint64_t value = PatternWord(id, word);
    memcpy(p + word * 8, &value, 8);
  }
  const uint64_t value = PatternWord(id, word);
  memcpy(p + word * 8, &value, end % 8);
}

// The offset of the first byte that differs, or `end`.
size_t FirstDifference(const unsigned char *p, uint64_t id, size_t begin, size_t end) {
  size_t word = begin / 8;
  for (; word < end / 8; ++word) {
    uint64_t seen;
    memcpy(&seen, p + word * 8, 8);
    if (seen != PatternWord(id, word)) break;
  }
  const uint64_t value = PatternWord(id, word);
  unsigned char expected[8];
  memcpy(expected, &value, 8);
  for (size_t at = word * 8; at < std::min(word * 8 + 8, end); ++at) {
    if (p[at] != expected[at % 8]) return at;
  }
  return end;
}

constexpr size_t kSparseFrom = 8192;
constexpr size_t kSparseEnd = 1024;
constexpr size_t kSparseStep = 32768;
constexpr size_t kSparseBytes = 64;

// The parts of a block of `filled` bytes that are filled.
template <typename Visit>
void EachPart(size_t filled, bool sparse, const Visit &visit) {
  if (!sparse || filled <= kSparseFrom) {
    visit(0, filled);
    return;
  }
  visit(0, kSparseEnd);
  const size_t last = (filled - kSparseEnd) & ~size_t{7};
  for (size_t at = kSparseStep; at + kSparseBytes <= last; at += kSparseStep) visit(at, at + kSparseBytes);
  visit(last, filled);
}

// Larger blocks are large ones.
constexpr size_t kSmallMax = size_t{32} << 10;

// The largest size for which malloc returns exactly good_size bytes.
constexpr size_t kLargestExact = size_t{1} << 20;

// What heap_visit sees, in any order.
std::vector<hak_block> Visited(const AllocatorApi &api) {
  std::vector<hak_block> blocks;
  const auto note = [](const hak_block *block, void *context) {
    static_cast<std::vector<hak_block> *>(context)->push_back(*block);
    return true;
  };
  api.heap_visit(note, &blocks);
  return blocks;
}

std::string Number(uint64_t n) { return std::to_string(n); }

}  // namespace

const char *OracleName(Oracle oracle) {
  switch (oracle) {
    case Oracle::kContents:
      return "contents";
    case Oracle::kOverlap:
      return "overlap";
    case Oracle::kAlignment:
      return "alignment";
    case Oracle::kUsable:
      return "usable size";
    case Oracle::kRealloc:
      return "realloc";
    case Oracle::kZero:
      return "zero";
    case Oracle::kErrno:
      return "errno";
    case Oracle::kOverflow:
      return "overflow";
    case Oracle::kStatistics:
      return "statistics";
    case Oracle::kVerify:
      return "verify";
    case Oracle::kAvailability:
      return "availability";
    case Oracle::kFault:
      return "fault";
    case Oracle::kSameAgain:
      return "same again";
    case Oracle::kVisit:
      return "visit";
    case Oracle::kMove:
      return "move";
    case Oracle::kOwns:
      return "owns";
  }
  return "?";
}

std::string Hex(const void *p) {
  char text[32];
  snprintf(text, sizeof text, "0x%" PRIxPTR, reinterpret_cast<uintptr_t>(p));
  return text;
}

HeapModel::HeapModel(const AllocatorApi &api) : api_(api) {
  baseline_.version = HAK_STATS_VERSION;
  if (api_.stats_get(&baseline_) != 0) Report(Oracle::kStatistics, "stats_get failed at the start");
}

void HeapModel::Report(Oracle oracle, std::string what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Only the first few are kept: a broken heap would cause millions.
  if (violations_.size() < 20) violations_.push_back({oracle, std::move(what)});
  failed_.store(true, std::memory_order_release);
}

std::vector<Violation> HeapModel::violations() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return violations_;
}

uint64_t HeapModel::live_blocks() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return live_.size();
}

void HeapModel::ExpectErrno(int error, const char *call) {
  if (error != kErrnoBefore) {
    Report(Oracle::kErrno, std::string(call) + " changed errno to " + std::to_string(error));
  }
}

bool HeapModel::Insert(const void *p, size_t usable, const char *call) {
  const auto start = reinterpret_cast<uintptr_t>(p);
  const uintptr_t end = start + std::max<size_t>(usable, 1);  // a block of size 0 has an address of its own too
  std::string what;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto next = live_.lower_bound(start);
    if (next != live_.end() && next->first < end) {
      what = "ahead of it";
    } else if (next != live_.begin() && std::prev(next)->second > start) {
      what = "behind it";
    } else {
      live_.emplace_hint(next, start, end);
      live_bytes_ += usable;
      return true;
    }
  }
  Report(Oracle::kOverlap, std::string(call) + " gave " + Hex(p) + " with " + Number(usable) +
                               " usable bytes, overlapping a live block " + what);
  return false;
}

void HeapModel::Remove(const Block &block, bool goes_free) {
  const std::lock_guard<std::mutex> lock(mutex_);
  live_.erase(reinterpret_cast<uintptr_t>(block.p));
  live_bytes_ -= block.usable;
  if (goes_free && !sparse_) freed_.insert(reinterpret_cast<uintptr_t>(block.p));
}

bool HeapModel::CheckBlock(const void *p, size_t size, size_t alignment, const char *call, size_t *usable) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0) {
    Report(Oracle::kAlignment, std::string(call) + "(" + Number(size) + ") gave " + Hex(p) +
                                   ", which is not a multiple of " + Number(alignment));
    return false;
  }
  *usable = api_.usable_size(p);
  if (*usable < size) {
    Report(Oracle::kUsable, std::string(call) + "(" + Number(size) + ") has only " + Number(*usable) + " usable bytes");
    return false;
  }
  return true;
}

bool HeapModel::CheckContents(const Block &block, size_t bytes, Oracle oracle, const char *when) {
  size_t at = bytes;
  EachPart(block.filled, sparse_, [&](size_t begin, size_t end) {
    end = std::min(end, bytes);
    if (begin >= end || at != bytes) return;
    const size_t found = FirstDifference(block.p, block.id, begin, end);
    if (found != end) at = found;
  });
  if (at == bytes) return true;
  Report(oracle, "block " + Number(block.id) + " at " + Hex(block.p) + " (" + Number(block.requested) + " asked for, " +
                     Number(block.usable) + " usable): byte " + Number(at) + " changed, seen " + when);
  return false;
}

// Of the addresses in the block, a different one each time, and the last.
void HeapModel::CheckOwns(const Block &block, const char *call) {
  errno = kErrnoBefore;
  if (!api_.owns(block.p)) Report(Oracle::kOwns, std::string("owns denies ") + Hex(block.p) + ", seen by " + call);
  if (block.usable > 1) {
    for (const size_t at : {1 + PatternWord(block.id, block.filled) % (block.usable - 1), block.usable - 1}) {
      if (api_.owns(block.p + at)) Report(Oracle::kOwns, "owns takes byte " + Number(at) + " of a block for a block");
    }
  }
  ExpectErrno(errno, "owns");
}

void HeapModel::Fill(Block *block) {
  block->id = next_id_.fetch_add(1, std::memory_order_relaxed);
  block->filled = block->usable;
  EachPart(block->filled, sparse_, [block](size_t begin, size_t end) { FillPattern(block->p, block->id, begin, end); });
  Close(*block);
}

void HeapModel::Open(const Block &block) const {
  const RegionCall unpoison = unpoison_region;
  if (close_blocks_ && unpoison != nullptr) unpoison(block.p, block.usable);
}

void HeapModel::Close(const Block &block) const {
  const RegionCall poison = poison_region;
  if (close_blocks_ && poison != nullptr) poison(block.p, block.usable);
}

void HeapModel::Refused(int error, const std::string &call) {
  if (may_fail_ == nullptr || !may_fail_()) {
    Report(Oracle::kAvailability, call + " failed");
  } else if (error != ENOMEM) {
    Report(Oracle::kFault, call + " failed with " + std::to_string(error));
  }
}

bool HeapModel::Adopt(void *p, size_t size, size_t alignment, bool zeroed, int error, const char *call, Block *out) {
  if (p == nullptr) {
    Refused(error, std::string(call) + "(" + Number(size) + ")");
    return false;
  }
  ExpectErrno(error, call);
  Block block;
  block.p = static_cast<unsigned char *>(p);
  block.requested = size;
  block.alignment = alignment;
  if (!CheckBlock(p, size, alignment, call, &block.usable)) return false;
  if (!Insert(p, block.usable, call)) return false;
  if (zeroed) {
    // All bytes are zero if the first one is, and each equals the one before.
    if (size > 0 && (block.p[0] != 0 || memcmp(block.p, block.p + 1, size - 1) != 0)) {
      size_t i = 0;
      while (block.p[i] == 0) ++i;
      Report(Oracle::kZero,
             std::string(call) + "(" + Number(size) + ") gave " + Hex(p) + " with byte " + Number(i) + " not zero");
      return false;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (freed_.count(reinterpret_cast<uintptr_t>(p)) != 0) recycled_zeroed_.fetch_add(1, std::memory_order_relaxed);
  }
  Fill(&block);
  CheckOwns(block, call);
  *out = block;
  return ok();
}

bool HeapModel::Malloc(size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.malloc(size);
  const int error = errno;
  if (!Adopt(p, size, 16, false, error, "malloc", out)) return false;
  // A block over 1 MiB may be somewhat larger than good_size says, never smaller.
  const size_t good = api_.good_size(size);
  const bool exact = size <= kLargestExact;
  // A small block may come from the next larger class, which is an eighth larger.
  const size_t most = exact ? good + good / 8 : SIZE_MAX;
  if (out->usable < good || out->usable > most) {
    Report(Oracle::kUsable, "good_size(" + Number(size) + ") is " + Number(good) + ", malloc gave " +
                                Number(out->usable) + " usable bytes");
  }
  return ok();
}

bool HeapModel::MallocNoCache(size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.malloc_nocache(size);
  const int error = errno;
  return Adopt(p, size, 16, false, error, "malloc_nocache", out);
}

bool HeapModel::Calloc(size_t count, size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.calloc(count, size);
  const int error = errno;
  return Adopt(p, count * size, 16, true, error, "calloc", out);
}

bool HeapModel::Zalloc(size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.zalloc(size);
  const int error = errno;
  return Adopt(p, size, 16, true, error, "zalloc", out);
}

bool HeapModel::ReallocNull(size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.realloc(nullptr, size);
  const int error = errno;
  return Adopt(p, size, 16, false, error, "realloc(NULL)", out);
}

bool HeapModel::AlignedAlloc(size_t alignment, size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.aligned_alloc(alignment, size);
  const int error = errno;
  if (!Adopt(p, size, std::max<size_t>(alignment, 16), false, error, "aligned_alloc", out)) return false;
  out->release = Release::kAlignedSized;
  out->alignment = alignment;
  return true;
}

bool HeapModel::AlignedCalloc(size_t alignment, size_t count, size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.aligned_calloc(alignment, count, size);
  const int error = errno;
  if (!Adopt(p, count * size, std::max<size_t>(alignment, 16), true, error, "aligned_calloc", out)) return false;
  out->release = Release::kAlignedSized;
  out->alignment = alignment;
  return true;
}

bool HeapModel::Memalign(size_t alignment, size_t size, Block *out) {
  errno = kErrnoBefore;
  void *p = api_.memalign(alignment, size);
  const int error = errno;
  size_t promised = 16;
  while (promised < alignment) promised *= 2;
  if (!Adopt(p, size, promised, false, error, "memalign", out)) return false;
  out->release = Release::kPlainOnly;
  out->alignment = promised;
  return true;
}

bool HeapModel::PosixMemalign(size_t alignment, size_t size, Block *out) {
  void *const untouched = this;
  void *p = untouched;
  errno = kErrnoBefore;
  const int code = api_.posix_memalign(&p, alignment, size);
  const int error = errno;
  if (code != 0) {
    Refused(code, "posix_memalign(" + Number(alignment) + ", " + Number(size) + ")");
    if (p != untouched || error != kErrnoBefore) {
      Report(Oracle::kErrno, "a failed posix_memalign wrote *out or errno");
    }
    return false;
  }
  if (!Adopt(p, size, std::max<size_t>(alignment, 16), false, error, "posix_memalign", out)) return false;
  out->release = Release::kPlainOnly;
  out->alignment = alignment;
  return true;
}

bool HeapModel::FinishRealloc(Block *block, void *result, size_t size, size_t alignment, int error, const char *call) {
  if (size == 0) {
    // As in the GNU C library, the block is freed, and NULL does not mean failure.
    if (result != nullptr) Report(Oracle::kRealloc, std::string(call) + "(p, 0) gave a block");
    ExpectErrno(error, call);
    block->p = nullptr;
    return ok();
  }
  if (result == nullptr) {
    Refused(error, std::string(call) + "(p, " + Number(size) + ")");
    if (!ok() || !Insert(block->p, block->usable, call)) return false;
    // The block is still live and unchanged.
    Close(*block);
    Audit(*block);
    return ok();
  }
  ExpectErrno(error, call);
  Block now = *block;
  now.p = static_cast<unsigned char *>(result);
  now.requested = size;
  now.alignment = alignment;
  now.release = alignment > 16 ? Release::kAlignedSized : Release::kSized;
  if (!CheckBlock(result, size, alignment, call, &now.usable)) return false;
  if (!Insert(result, now.usable, call)) return false;
  // Programs may use all bytes that usable_size reports, so these must be kept too, not only the requested bytes.
  if (!CheckContents(now, std::min(block->usable, size), Oracle::kRealloc, call)) return false;
  Fill(&now);
  *block = now;
  return ok();
}

bool HeapModel::Realloc(Block *block, size_t size) {
  Audit(*block);
  if (!ok()) return false;
  Remove(*block, true);
  Open(*block);
  errno = kErrnoBefore;
  void *result = api_.realloc(block->p, size);
  const int error = errno;
  return FinishRealloc(block, result, size, 16, error, "realloc");
}

bool HeapModel::ReallocArray(Block *block, size_t count, size_t size) {
  Audit(*block);
  if (!ok()) return false;
  Remove(*block, true);
  Open(*block);
  errno = kErrnoBefore;
  void *result = api_.reallocarray(block->p, count, size);
  const int error = errno;
  return FinishRealloc(block, result, count * size, 16, error, "reallocarray");
}

bool HeapModel::AlignedRealloc(Block *block, size_t alignment, size_t size) {
  Audit(*block);
  if (!ok()) return false;
  Remove(*block, true);
  Open(*block);
  errno = kErrnoBefore;
  void *result = api_.aligned_realloc(block->p, alignment, size);
  const int error = errno;
  return FinishRealloc(block, result, size, std::max<size_t>(alignment, 16), error, "aligned_realloc");
}

bool HeapModel::ReallocInPlace(Block *block, size_t size) {
  Audit(*block);
  if (!ok()) return false;
  Remove(*block, false);
  Open(*block);
  errno = kErrnoBefore;
  void *result = api_.realloc_in_place(block->p, size);
  ExpectErrno(errno, "realloc_in_place");
  Block now = *block;
  now.usable = api_.usable_size(block->p);
  if (!Insert(block->p, now.usable, "realloc_in_place")) return false;
  if (result == nullptr) {
    if (now.usable != block->usable) Report(Oracle::kUsable, "a refused realloc_in_place changed the usable size");
    if (size <= block->usable) {
      Report(Oracle::kRealloc, "realloc_in_place refused " + Number(size) + " of " + Number(block->usable) + " bytes");
    }
    Close(*block);
    Audit(*block);
    return ok();
  }
  if (result != block->p) Report(Oracle::kRealloc, "realloc_in_place moved the block");
  if (now.usable < size) Report(Oracle::kUsable, "realloc_in_place gave too few bytes");
  if (!ok()) return false;
  now.requested = size;
  now.release = Release::kPlainOnly;
  if (!CheckContents(now, std::min(block->usable, size), Oracle::kRealloc, "realloc_in_place")) return false;
  Fill(&now);
  *block = now;
  return ok();
}

void HeapModel::Free(const Block &block) {
  Audit(block);
  if (!ok()) return;
  Remove(block, true);
  Open(block);
  errno = kErrnoBefore;
  api_.free(block.p);
  ExpectErrno(errno, "free");
}

void HeapModel::FreeSized(const Block &block) {
  Audit(block);
  if (!ok()) return;
  Remove(block, true);
  Open(block);
  errno = kErrnoBefore;
  switch (block.release) {
    case Release::kSized:
      api_.free_sized(block.p, block.requested);
      break;
    case Release::kAlignedSized:
      api_.free_aligned_sized(block.p, block.alignment, block.requested);
      break;
    case Release::kPlainOnly:
      api_.free(block.p);
      break;
  }
  ExpectErrno(errno, "free_sized");
}

void HeapModel::FreeNoCache(const Block &block) {
  Audit(block);
  if (!ok()) return;
  Remove(block, true);
  Open(block);
  errno = kErrnoBefore;
  api_.free_nocache(block.p);
  ExpectErrno(errno, "free_nocache");
}

void HeapModel::MoveSparse(const std::vector<Block *> &blocks) {
  std::vector<void *> asked;
  for (const Block *block : blocks) asked.push_back(block->p);
  asked.push_back(nullptr);
  const std::unique_ptr<bool[]> move(new bool[asked.size()]);
  errno = kErrnoBefore;
  const size_t yes = api_.should_move(asked.data(), asked.size(), move.get());
  ExpectErrno(errno, "should_move");
  if (yes != static_cast<size_t>(std::count(move.get(), move.get() + asked.size(), true))) {
    Report(Oracle::kMove, "should_move gave " + Number(yes) + " for another number of answers");
  }
  if (move[blocks.size()]) Report(Oracle::kMove, "should_move wants NULL moved");
  for (size_t i = 0; i < blocks.size() && ok(); ++i) {
    if (!move[i]) continue;
    if (blocks[i]->usable > kSmallMax) Report(Oracle::kMove, "should_move wants a large block moved");
    Block moved;
    // The contents of the new block are the model's own, so the old one is compared when it is freed.
    if (!MallocNoCache(blocks[i]->requested, &moved)) continue;
    FreeNoCache(*blocks[i]);
    *blocks[i] = moved;
  }
}

void HeapModel::Audit(const Block &block) {
  errno = kErrnoBefore;
  const size_t usable = api_.usable_size(block.p);
  ExpectErrno(errno, "usable_size");
  if (usable != block.usable) {
    Report(Oracle::kUsable,
           "the usable size of " + Hex(block.p) + " went from " + Number(block.usable) + " to " + Number(usable));
    return;
  }
  CheckOwns(block, "an audit");
  Open(block);
  CheckContents(block, block.usable, Oracle::kContents, "in an audit");
  Close(block);
}

void HeapModel::CheckVisit() {
  std::string wrong;
  uint64_t others = 0;
  const std::vector<hak_block> visited = Visited(api_);
  std::unordered_set<uintptr_t> seen;
  const uint64_t live = live_blocks();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const hak_block &block : visited) {
      const auto address = reinterpret_cast<uintptr_t>(block.address);
      const auto found = live_.find(address);
      if (!seen.insert(address).second) {
        wrong = "saw " + Hex(block.address) + " twice";
      } else if (found == live_.end()) {
        ++others;
      } else if (std::max<size_t>(block.usable_size, 1) != found->second - found->first) {
        wrong = "gave " + Hex(block.address) + " " + Number(block.usable_size) + " usable bytes";
      }
    }
  }
  if (wrong.empty() && seen.size() != live + others) {
    wrong = "saw " + Number(seen.size() - others) + " of " + Number(live) + " live blocks";
  } else if (wrong.empty() && others != baseline_.live_blocks) {
    wrong = "saw " + Number(others) + " blocks that are not the model's, for " + Number(baseline_.live_blocks);
  }
  if (!wrong.empty()) Report(Oracle::kVisit, "heap_visit " + wrong);
}

void HeapModel::CheckVerify() {
  if (!api_.heap_verify()) Report(Oracle::kVerify, "heap_verify returned false");
}

void HeapModel::CheckStatistics() {
  hak_stats now = {};
  now.version = HAK_STATS_VERSION;
  if (api_.stats_get(&now) != 0) {
    Report(Oracle::kStatistics, "stats_get failed");
    return;
  }
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    blocks = live_.size();
    bytes = live_bytes_;
  }
  const auto expect = [&](bool good, const char *rule, uint64_t seen, uint64_t wanted) {
    if (!good) {
      Report(Oracle::kStatistics, std::string(rule) + ": " + Number(seen) + " against " + Number(wanted));
    }
  };
  const uint64_t seen_blocks = now.live_blocks - baseline_.live_blocks;
  const uint64_t seen_bytes = now.live_bytes - baseline_.live_bytes;
  expect(seen_blocks == blocks, "live_blocks differs from the model", seen_blocks, blocks);
  expect(seen_bytes == bytes, "live_bytes differs from the model", seen_bytes, bytes);
  expect(now.version == HAK_STATS_VERSION, "version", now.version, HAK_STATS_VERSION);
  expect(now.large_blocks <= now.live_blocks, "large_blocks over live_blocks", now.large_blocks, now.live_blocks);
  expect(now.large_bytes <= now.live_bytes, "large_bytes over live_bytes", now.large_bytes, now.live_bytes);
  expect(now.mapped_bytes >= now.live_bytes, "mapped_bytes under live_bytes", now.mapped_bytes, now.live_bytes);
  expect(now.committed_bytes >= now.live_bytes, "committed_bytes under live_bytes", now.committed_bytes,
         now.live_bytes);
  expect(now.committed_bytes <= now.mapped_bytes, "committed_bytes over mapped_bytes", now.committed_bytes,
         now.mapped_bytes);
  expect(now.peak_mapped_bytes >= now.mapped_bytes, "peak_mapped_bytes under mapped_bytes", now.peak_mapped_bytes,
         now.mapped_bytes);
  expect(now.metadata_bytes <= now.mapped_bytes, "metadata_bytes over mapped_bytes", now.metadata_bytes,
         now.mapped_bytes);
}

}  // namespace hak_test
