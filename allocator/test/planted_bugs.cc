// SPDX-License-Identifier: Apache-2.0
#include "allocator/test/planted_bugs.h"

#include <errno.h>
#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

namespace hak_test {
namespace {

// An occasional bug occurs once in this many calls.
constexpr uint64_t kPeriod = 50;

Bug g_bug;
std::atomic<uint64_t> g_calls;
std::mutex g_mutex;
unsigned char *g_last;                                      // the block that malloc returned before, while it is live
std::unordered_map<const void *, size_t> g_fakes;           // made-up pointers and their usable sizes
std::unordered_set<const void *> g_owned;                   // what owns said yes to (kOwnsFreed only)
std::unordered_map<const void *, std::thread::id> g_owner;  // who allocated (kLostRemoteFree only)

bool Strikes() { return g_calls.fetch_add(1) % kPeriod == kPeriod - 1; }
bool IsHuge(size_t size) { return size > static_cast<size_t>(PTRDIFF_MAX); }

void *Fake(void *base, size_t offset) {
  unsigned char *p = static_cast<unsigned char *>(base) + offset;
  g_fakes[p] = hak_usable_size(base) - offset;
  return p;
}

// Without ThreadSanitizer, which would report the planted bug itself if another thread is just filling the block.
__attribute__((noinline, no_sanitize("thread"))) void Scribble(unsigned char *block) { block[0] ^= 1; }

void *Malloc(size_t size) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (g_bug == Bug::kHugeSucceeds && IsHuge(size)) return hak_malloc(64);
  if (g_bug == Bug::kFailsAtRandom && Strikes()) {
    errno = ENOMEM;
    return nullptr;
  }
  if (g_bug == Bug::kMisaligned && !IsHuge(size)) return Fake(hak_malloc(size + 16), 8);
  const bool inside = g_bug == Bug::kOverlap;
  if ((inside || g_bug == Bug::kDuplicate) && g_last != nullptr && Strikes()) {
    const size_t offset = inside ? 16 : 0;
    if (hak_usable_size(g_last) >= size + offset && hak_usable_size(g_last) > offset) return Fake(g_last, offset);
  }
  unsigned char *before = g_last;
  auto *p = static_cast<unsigned char *>(hak_malloc(size));
  if (p == nullptr) {
    if (g_bug == Bug::kWrongErrno) errno = EINVAL;
    return nullptr;
  }
  if (g_bug == Bug::kMallocSetsErrno) errno = EAGAIN;
  if (g_bug == Bug::kScribble && before != nullptr && hak_usable_size(before) > 0 && Strikes()) Scribble(before);
  if (g_bug == Bug::kLostRemoteFree) g_owner[p] = std::this_thread::get_id();
  g_last = p;
  return p;
}

// Notes that `p` is about to be freed. False: the planted bug prevents the free.
bool MayFree(void *p) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (p == g_last) g_last = nullptr;
  if (g_fakes.count(p) != 0) return false;
  // Small blocks: a large one that is not freed is noticed by owns first.
  if (g_bug == Bug::kLostFree && hak_usable_size(p) < 32768 && Strikes()) return false;
  const auto owner = g_owner.find(p);
  if (owner == g_owner.end()) return true;
  const bool own = owner->second == std::this_thread::get_id();
  g_owner.erase(owner);
  return own;
}

void Free(void *p) {
  if (MayFree(p)) hak_free(p);
  if (g_bug == Bug::kFreeSetsErrno) errno = EAGAIN;
}

void FreeSized(void *p, size_t size) {
  if (MayFree(p)) hak_free_sized(p, size);
}

void FreeAlignedSized(void *p, size_t alignment, size_t size) {
  if (MayFree(p)) hak_free_aligned_sized(p, alignment, size);
}

void *Calloc(size_t count, size_t size) {
  size_t product = 0;
  if (g_bug == Bug::kCallocWraps && __builtin_mul_overflow(count, size, &product)) {
    return hak_zalloc(std::min<size_t>(product, 4096));
  }
  auto *p = static_cast<unsigned char *>(hak_calloc(count, size));
  if (g_bug == Bug::kDirtyCalloc && p != nullptr && count * size > 0) p[count * size - 1] = 0xA5;
  return p;
}

void *Realloc(void *old, size_t size) {
  auto *bytes = static_cast<unsigned char *>(old);
  if (g_bug == Bug::kFailedReallocTouches && old != nullptr && IsHuge(size)) {
    ++bytes[0];
    errno = ENOMEM;
    return nullptr;
  }
  {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (old == g_last && !IsHuge(size)) g_last = nullptr;
    if (!IsHuge(size)) g_owner.erase(old);
  }
  if (g_bug == Bug::kReallocZeroKeeps && old != nullptr && size == 0) return old;
  const size_t kept = old == nullptr ? 0 : std::min(hak_usable_size(old), size);
  auto *p = static_cast<unsigned char *>(hak_realloc(old, size));
  if (g_bug == Bug::kReallocLoses && p != nullptr && kept > 0) p[kept - 1] ^= 1;
  return p;
}

void *ReallocArray(void *old, size_t count, size_t size) {
  size_t product = 0;
  const bool wraps = __builtin_mul_overflow(count, size, &product);
  if (!wraps) return Realloc(old, product);
  if (g_bug == Bug::kReallocArrayWraps) return hak_malloc(64);
  return hak_reallocarray(old, count, size);
}

void *AlignedAlloc(size_t alignment, size_t size) {
  const bool power = alignment != 0 && (alignment & (alignment - 1)) == 0;
  if (g_bug == Bug::kTopAlignment && power && alignment >= size_t{1} << 62 && !IsHuge(size)) return hak_malloc(size);
  if (g_bug == Bug::kOddAlignment && !power) return hak_malloc(64);
  void *p = hak_aligned_alloc(alignment, size + (g_bug == Bug::kMisalignedAligned && !IsHuge(size) ? 16 : 0));
  if (g_bug != Bug::kMisalignedAligned || p == nullptr || alignment < 32) return p;
  const std::lock_guard<std::mutex> lock(g_mutex);
  return Fake(p, 16);
}

void *AlignedCalloc(size_t alignment, size_t count, size_t size) {
  auto *p = static_cast<unsigned char *>(hak_aligned_calloc(alignment, count, size));
  if (g_bug == Bug::kDirtyAligned && p != nullptr && count * size > 0) p[count * size - 1] = 0xA5;
  return p;
}

void *AlignedRealloc(void *old, size_t alignment, size_t size) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (old == g_last && !IsHuge(size)) g_last = nullptr;
  if (!IsHuge(size)) g_owner.erase(old);
  const bool ordinary = !IsHuge(size) && alignment <= size_t{1} << 22 && (alignment & (alignment - 1)) == 0;
  if (g_bug == Bug::kReallocMisaligns && alignment != 0 && ordinary) return hak_realloc(old, size);
  const size_t kept = old == nullptr ? 0 : std::min(hak_usable_size(old), size);
  auto *p = static_cast<unsigned char *>(hak_aligned_realloc(old, alignment, size));
  if (g_bug == Bug::kAlignedReallocLoses && p != nullptr && kept > 0) p[kept - 1] ^= 1;
  return p;
}

int PosixMemalign(void **out, size_t alignment, size_t size) {
  const int code = hak_posix_memalign(out, alignment, size);
  if (code != 0 && g_bug == Bug::kPosixWritesOut) *out = nullptr;
  if (code != 0 && g_bug == Bug::kPosixSetsErrno) errno = code;
  return code;
}

size_t UsableSize(const void *p) {
  {
    const std::lock_guard<std::mutex> lock(g_mutex);
    const auto fake = g_fakes.find(p);
    if (fake != g_fakes.end()) return fake->second;
  }
  const size_t usable = hak_usable_size(p);
  if (g_bug == Bug::kUsableTooSmall) return usable / 2;
  if (g_bug == Bug::kUsableUnstable && Strikes()) return usable - 1;
  return usable;
}

size_t GoodSize(size_t size) {
  const size_t good = hak_good_size(size);
  return g_bug == Bug::kGoodSizeWrong && good != 0 ? good + 16 : good;
}

void *ReallocInPlace(void *p, size_t size) {
  void *result = hak_realloc_in_place(p, size);
  return g_bug == Bug::kInPlaceMoves && result != nullptr ? static_cast<unsigned char *>(result) + 16 : result;
}

bool Owns(const void *p) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (g_bug == Bug::kOwnsDenies && Strikes()) return false;
  const auto address = reinterpret_cast<uintptr_t>(p);
  const bool owns =
      hak_owns(reinterpret_cast<const void *>(g_bug == Bug::kOwnsInside ? address & ~uintptr_t{7} : address));
  if (g_bug != Bug::kOwnsFreed) return owns;
  if (owns) g_owned.insert(p);
  return g_owned.count(p) != 0;
}

size_t ShouldMove(void *const *blocks, size_t count, bool *move) {
  size_t yes = hak_should_move(blocks, count, move);
  if (g_bug == Bug::kMoveCounts) return yes + 1;
  if (g_bug != Bug::kMoveAll) return yes;
  std::fill(move, move + count, true);
  return count;
}

void FreeNoCache(void *p) {
  // As in MayFree.
  if (g_bug == Bug::kNoCacheLoses && hak_usable_size(p) < 32768) return;
  if (MayFree(p)) hak_free_nocache(p);
}

int StatsGet(hak_stats *stats) {
  const int code = hak_stats_get(stats);
  // The first call is correct, because it is the baseline: a constant offset would cancel out.
  if (g_calls.fetch_add(1) == 0) return code;
  if (g_bug == Bug::kStatsBlocks) stats->live_blocks += 1;
  if (g_bug == Bug::kStatsBytes) stats->live_bytes -= 16;
  return code;
}

struct Visitor {
  bool (*visit)(const hak_block *block, void *context);
  void *context;
  unsigned count;
};

bool VisitWrongly(const hak_block *block, void *context) {
  auto *visitor = static_cast<Visitor *>(context);
  hak_block shown = *block;
  const bool strikes = ++visitor->count % 7 == 0;
  if (g_bug == Bug::kVisitMisses && strikes) return true;
  if (g_bug == Bug::kVisitSize) ++shown.usable_size;
  if (g_bug == Bug::kVisitTwice && strikes) visitor->visit(&shown, visitor->context);
  if (g_bug == Bug::kVisitFreed && strikes) {
    shown.address = static_cast<char *>(shown.address) + shown.class_size;
  }
  return visitor->visit(&shown, visitor->context);
}

size_t HeapVisit(bool (*visit)(const hak_block *block, void *context), void *context) {
  Visitor visitor = {visit, context, 0};
  return hak_heap_visit(VisitWrongly, &visitor);
}

bool Verify() { return g_bug != Bug::kVerifyFails && hak_heap_verify(); }

}  // namespace

AllocatorApi PlantBug(Bug bug) {
  g_bug = bug;
  g_calls = 0;
  g_last = nullptr;
  g_fakes.clear();
  g_owner.clear();
  g_owned.clear();
  AllocatorApi api;
  api.malloc = Malloc;
  api.calloc = Calloc;
  api.realloc = Realloc;
  api.reallocarray = ReallocArray;
  api.free = Free;
  api.free_sized = FreeSized;
  api.free_aligned_sized = FreeAlignedSized;
  api.aligned_alloc = AlignedAlloc;
  api.aligned_calloc = AlignedCalloc;
  api.aligned_realloc = AlignedRealloc;
  api.posix_memalign = PosixMemalign;
  api.usable_size = UsableSize;
  api.good_size = GoodSize;
  api.realloc_in_place = ReallocInPlace;
  api.owns = Owns;
  api.should_move = ShouldMove;
  api.free_nocache = FreeNoCache;
  api.stats_get = StatsGet;
  api.heap_verify = Verify;
  api.heap_visit = HeapVisit;
  return api;
}

}  // namespace hak_test
