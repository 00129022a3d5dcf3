// SPDX-License-Identifier: Apache-2.0
//
// Gathers the statistics of all boxes, and prints them.
#include "allocator/observe/statistics.h"

#include "allocator/block/empty_blocks.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/large/guarded.h"
#include "allocator/large/large.h"
#include "allocator/large/medium.h"
#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/reclaim/reclaim.h"
#include "allocator/slab/slab_guard.h"
#include "allocator/slab/slab_pool_stats.h"
#include "allocator/slab/slab_purged.h"
#include "allocator/slab/superslab_records.h"

// Statistics are read one after another while other threads work, so they may not fit together. The difference is never
// below zero.
static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

// X(version that has it first, field of hak_stats, value, by the names of `gather`), in the order of hak_stats. What is
// filled in, what a caller of an older version gets, and what HAKMEM_STATS_AT_EXIT prints is made from it.
// clang-format off
#define STATISTICS(X) \
  X(1, live_blocks, live_blocks) \
  X(1, live_bytes, live_bytes) \
  X(1, cached_blocks, heaps.cached_blocks) \
  X(1, cached_bytes, heaps.cached_bytes) \
  X(1, mapped_bytes, os.mapped) \
  X(1, committed_bytes, less(os.mapped, without_memory)) \
  X(1, peak_mapped_bytes, os.peak_mapped) \
  X(1, metadata_bytes, records + page_map + heads) \
  X(1, superslabs, pool.superslabs) \
  X(1, slabs_used, pool.slabs_used) \
  X(1, slabs_free, pool.slabs_free) \
  X(1, large_blocks, large_blocks) \
  X(1, large_bytes, large_bytes) \
  X(1, refills, heaps.refills) \
  X(1, flushes, heaps.flushes) \
  X(1, remote_batches, heaps.remote_batches) \
  X(1, slabs_adopted, heaps.adopted) \
  X(1, decommitted_bytes, os.decommitted_bytes) \
  X(1, os_calls, os.calls) \
  X(2, heap_free_bytes, heaps.free_bytes) \
  X(2, pool_free_bytes, pool.slabs_free_dirty * HAK_SLAB_SIZE) \
  X(2, purged_bytes, hak_slab_purged_bytes()) \
  X(2, decommits, os.decommits) \
  X(2, lazy_bytes, os.lazy_bytes) \
  X(2, deadline_releases, pool.counters.deadline_releases) \
  X(2, deadline_bytes, pool.counters.deadline_bytes) \
  X(2, lean_decommits, pool.counters.lean_decommits) \
  X(2, lean_bytes, pool.counters.lean_bytes) \
  X(2, superslabs_unmapped, pool.counters.unmapped_superslabs) \
  X(2, superslabs_prewarmed, pool.counters.prewarmed) \
  X(2, prewarm_skipped, hak_config.prewarm_suppressed) \
  X(2, idle_blocks_taken, atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed)) \
  X(2, background_rounds, atomic_load_explicit(&hak_background_round_count, memory_order_relaxed)) \
  X(2, limit_purges, limits.purges) \
  X(2, limit_refusals, limits.refusals) \
  X(3, guard_pages, hak_slab_guard_count()) \
  X(3, quarantined_blocks, guarded.held + heaps.held_blocks) \
  X(3, sampled_blocks, guarded.sampled) \
  X(4, long_lock_waits, waits.count) \
  X(4, longest_lock_wait_us, waits.longest_us)
// clang-format on

static HAK_COLD void fill_classes(struct hak_class_statistics *classes, const struct hak_pool_totals *pool,
                                  const struct hak_heap_totals *heaps) {
  // Classes of one stride are counted as one.
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_class_slabs *slabs = &pool->classes[class_id];
    const struct hak_class_cached *cached = &heaps->classes[class_id];
    const uint64_t remote_blocks = slabs->remote_blocks + cached->rest_blocks;
    struct hak_class_statistics *of = &classes[hak_class_plain(class_id)];
    of->slabs += slabs->slabs;
    of->cached_blocks += cached->cached_blocks;
    of->remote_blocks += remote_blocks;
    of->live_blocks += less(slabs->held_blocks, cached->cached_blocks + remote_blocks);
    of->free_blocks += slabs->free_blocks;
    of->fresh_blocks += slabs->fresh_blocks;
  }
}

uint64_t hak_large_range_end(uint32_t range) {
  return range < HAK_LARGE_RANGES - 1 ? (uint64_t)64 * 1024 << (2 * range) : UINT64_MAX;
}

static HAK_COLD uint32_t range_of(uint64_t bytes) {
  uint32_t range = 0;
  while (bytes > hak_large_range_end(range)) range++;
  return range;
}

static HAK_COLD void add_large(size_t usable, void *context) {
  struct hak_large_statistics *of = &((struct hak_large_statistics *)context)[range_of(usable)];
  of->blocks++;
  of->bytes += usable;
}

static HAK_COLD void fill_large(struct hak_large_statistics *large, const struct hak_heap_totals *heaps) {
  hak_large_sizes(add_large, large);
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    const uint64_t blocks = heaps->cached_medium[class_id];
    struct hak_large_statistics *of = &large[range_of(hak_medium_counted(class_id))];
    of->blocks = less(of->blocks, blocks);
    of->bytes = less(of->bytes, blocks * hak_medium_counted(class_id));
  }
}

// Fills in `stats`, and unless it is NULL also `all`, which holds zeros.
static void gather(hak_stats *stats, struct hak_all_statistics *all) {
  hak_heap_close_left();
  const struct hak_pool_totals pool = hak_pool_totals();
  const struct hak_heap_totals heaps = hak_heap_totals();
  const struct hak_page_heap_totals pages = hak_page_heap_totals();
  const struct hak_guarded_totals guarded = hak_guarded_totals();
  const struct hak_os_totals os = hak_os_totals();
  const struct hak_limit_totals limits = hak_limit_totals();
  const struct hak_lock_waits waits = hak_lock_waits();
  // The page map is a reservation. Only the part that describes memory of the page heap is in use.
  const uint64_t page_map = pages.mapped_bytes / HAK_CHUNK_SIZE * sizeof(struct hak_chunk);
  const uint64_t records = hak_meta_mapped();
  const uint64_t gone_records = less(records, hak_meta_committed());
  const uint64_t heads = hak_superslab_records_apart() ? 0 : pool.superslabs * HAK_SUPERSLAB_HEAD;
  // In builds with guards, the blocks of the page heap are the blocks without guards, which are counted as guarded
  // blocks too.
  const uint64_t large_blocks = HAK_GUARDED ? guarded.blocks : less(pages.blocks, heaps.cached_large_blocks);
  const uint64_t large_bytes = HAK_GUARDED ? guarded.bytes : less(pages.bytes, heaps.cached_large_bytes);
  const uint64_t live_blocks = less(pool.tiny_blocks, heaps.cached_blocks + pool.remote_blocks + heaps.rest_blocks) +
                               large_blocks + hak_empty_count();
  const uint64_t live_bytes =
      less(pool.tiny_bytes, heaps.cached_bytes + pool.remote_bytes + heaps.rest_bytes + heaps.canary_bytes) +
      large_bytes;
  const uint64_t without_memory = (pool.slabs_free - pool.slabs_free_dirty) * HAK_SLAB_SIZE + hak_slab_purged_bytes() +
                                  guarded.closed + gone_records + less(pages.free_bytes, pages.cached_bytes);
  if (all != NULL) {
    all->empty_blocks = hak_empty_count();
    fill_classes(all->classes, &pool, &heaps);
    fill_large(all->large, &heaps);
  }
  stats->threads = heaps.threads;
#define FILL(since, field, value) stats->field = (value);
  STATISTICS(FILL)
#undef FILL
}

static const struct {
  const char *name;
  uint32_t since;
} statistics[] = {
#define NAME(since, field, value) {#field, since},
    STATISTICS(NAME)
#undef NAME
};
enum {
#define INDEX(since, field, value) INDEX_##field,
  STATISTICS(INDEX)
#undef INDEX
      COUNT
};
#define FIRST offsetof(hak_stats, live_blocks)
#define IN_ORDER(since, field, value)                                                                              \
  static_assert(offsetof(hak_stats, field) == FIRST + INDEX_##field * sizeof(uint64_t), "the order of hak_stats"); \
  static_assert((since) >= 1 && (since) <= HAK_STATS_VERSION, "a version that there is");
STATISTICS(IN_ORDER)
#undef IN_ORDER
static_assert(sizeof(hak_stats) == FIRST + COUNT * sizeof(uint64_t), "every statistic has a row");

// Bytes of the structure in the caller's version.
static size_t known_bytes(uint32_t version) {
  size_t count = 0;
  while (count < COUNT && statistics[count].since <= version) count++;
  return FIRST + count * sizeof(uint64_t);
}

void hak_statistics_gather(hak_stats *stats) {
  hak_stats all;
  gather(&all, NULL);
  all.version = stats->version < HAK_STATS_VERSION ? stats->version : HAK_STATS_VERSION;
  hak_bytes_copy(stats, &all, known_bytes(all.version));
}

HAK_COLD void hak_statistics_gather_all(struct hak_all_statistics *all) {
  hak_bytes_fill(all, 0, sizeof *all);
  gather(&all->process, all);
  all->process.version = HAK_STATS_VERSION;
  const uint64_t memory = HAK_SETTING(memory_limit_bytes);
  const uint64_t group = hak_limit_totals().group;
  all->memory_limit = memory != 0 ? memory : UINT64_MAX;
  all->group_limit = group != 0 ? group : UINT64_MAX;
  all->purge_limit = hak_limit_soft(memory, group, HAK_SETTING(soft_limit_bytes));
}

HAK_COLD void hak_statistics_for_each(const hak_stats *stats,
                                      void (*visit)(const char *name, uint64_t value, void *context), void *context) {
  visit("threads", stats->threads, context);
  for (size_t i = 0; i < COUNT; i++) {
    uint64_t value;
    hak_bytes_copy(&value, (const char *)stats + FIRST + i * sizeof value, sizeof value);
    visit(statistics[i].name, value, context);
  }
}

// ---- Dump ---------------------------------------------------------------------------------------

static void dump_one(const char *name, uint64_t value, void *context) {
  (void)context;
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: ");
  hak_line_text(&line, name);
  hak_line_text(&line, "=");
  hak_line_number(&line, (int64_t)value);
  hak_line_write(&line);
}

void hak_statistics_dump(void) {
  hak_stats stats;
  stats.version = HAK_STATS_VERSION;
  hak_statistics_gather(&stats);
  hak_statistics_for_each(&stats, dump_one, NULL);
}
