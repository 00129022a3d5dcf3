// SPDX-License-Identifier: Apache-2.0
#include "allocator/observe/statistics.h"

#include <string.h>

#include "allocator/block/empty_blocks.h"
#include "allocator/heap/heap.h"
#include "allocator/heap/heap_life.h"
#include "allocator/heap/idle_cache.h"
#include "allocator/large/guarded.h"
#include "allocator/large/mapping.h"
#include "allocator/meta/meta.h"
#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/reclaim/reclaim.h"
#include "allocator/slab/slab_guard.h"
#include "allocator/slab/slab_pool_look.h"
#include "allocator/slab/superslab_records.h"

// Figures read one after another while other threads work need not fit together: nothing goes below zero.
static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static void gather(hak_stats *stats) {
  hak_heap_close_left();
  const struct hak_pool_totals pool = hak_pool_totals();
  const struct hak_heap_totals heaps = hak_heap_totals();
  const struct hak_mapping_totals mappings = hak_mapping_totals();
  const struct hak_guarded_totals guarded = hak_guarded_totals();
  const struct hak_os_totals os = hak_os_totals();
  const uint64_t records = hak_meta_mapped();
  const uint64_t gone_records = less(records, hak_meta_committed());
  const uint64_t heads = hak_superslab_records_apart() ? 0 : pool.superslabs * HAK_SUPERSLAB_HEAD;
  stats->threads = heaps.threads;
  // In builds with guards, spans and mappings are blocks without them, which are among the guarded ones.
  stats->large_blocks = HAK_GUARDED ? guarded.blocks : pool.spans + mappings.blocks;
  stats->large_bytes = HAK_GUARDED ? guarded.bytes : pool.span_bytes + mappings.bytes;
  stats->cached_blocks = heaps.cached_blocks;
  stats->cached_bytes = heaps.cached_bytes;
  stats->live_blocks = less(pool.tiny_blocks, heaps.cached_blocks + pool.remote_blocks + heaps.rest_blocks) +
                       stats->large_blocks + hak_empty_count();
  stats->live_bytes =
      less(pool.tiny_bytes, heaps.cached_bytes + pool.remote_bytes + heaps.rest_bytes + heaps.canary_bytes) +
      stats->large_bytes;
  stats->mapped_bytes = os.mapped;
  stats->peak_mapped_bytes = os.peak_mapped;
  const uint64_t without_memory = (pool.slabs_free - pool.slabs_free_dirty) * HAK_SLAB_SIZE + hak_slab_purged_bytes() +
                                  guarded.closed + gone_records;
  stats->committed_bytes = less(os.mapped, without_memory);
  stats->metadata_bytes = records + heads;
  stats->superslabs = pool.superslabs;
  stats->slabs_used = pool.slabs_used;
  stats->slabs_free = pool.slabs_free;
  stats->refills = heaps.refills;
  stats->flushes = heaps.flushes;
  stats->remote_batches = heaps.remote_batches;
  stats->slabs_adopted = heaps.adopted;
  stats->decommitted_bytes = os.decommitted_bytes;
  stats->os_calls = os.calls;
  stats->heap_free_bytes = heaps.free_bytes;
  stats->pool_free_bytes = pool.slabs_free_dirty * HAK_SLAB_SIZE;
  stats->purged_bytes = hak_slab_purged_bytes();
  stats->decommits = os.decommits;
  stats->lazy_bytes = os.lazy_bytes;
  stats->deadline_releases = pool.counters.deadline_releases;
  stats->deadline_bytes = pool.counters.deadline_bytes;
  stats->lean_decommits = pool.counters.lean_decommits;
  stats->lean_bytes = pool.counters.lean_bytes;
  stats->superslabs_unmapped = pool.counters.unmapped_superslabs;
  stats->superslabs_prewarmed = pool.counters.prewarmed;
  stats->prewarm_skipped = hak_config.prewarm_suppressed;
  stats->idle_blocks_taken = atomic_load_explicit(&hak_stolen_blocks, memory_order_relaxed);
  stats->background_rounds = atomic_load_explicit(&hak_background_round_count, memory_order_relaxed);
  stats->guard_pages = hak_slab_guard_count();
  stats->quarantined_blocks = guarded.held + heaps.held_blocks;
  stats->sampled_blocks = guarded.sampled;
  const struct hak_limit_totals limits = hak_limit_totals();
  stats->limit_purges = limits.purges;
  stats->limit_refusals = limits.refusals;
  const struct hak_lock_waits waits = hak_lock_waits();
  stats->long_lock_waits = waits.count;
  stats->longest_lock_wait_us = waits.longest_us;
}

// Bytes of the structure as the caller's version knows it.
static size_t known_bytes(uint32_t version) {
  if (version == 1) return offsetof(hak_stats, heap_free_bytes);
  if (version == 2) return offsetof(hak_stats, guard_pages);
  return version == 3 ? offsetof(hak_stats, long_lock_waits) : sizeof(hak_stats);
}

void hak_statistics_gather(hak_stats *stats) {
  hak_stats all;
  gather(&all);
  all.version = stats->version < HAK_STATS_VERSION ? stats->version : HAK_STATS_VERSION;
  memcpy(stats, &all, known_bytes(all.version));
}

// ---- Dump ---------------------------------------------------------------------------------------

// clang-format off
#define FIELDS(X) \
  X(live_blocks) X(live_bytes) X(cached_blocks) X(cached_bytes) X(mapped_bytes) \
  X(committed_bytes) X(peak_mapped_bytes) X(metadata_bytes) X(superslabs) X(slabs_used) \
  X(slabs_free) X(large_blocks) X(large_bytes) X(refills) X(flushes) \
  X(remote_batches) X(slabs_adopted) X(decommitted_bytes) X(os_calls) X(heap_free_bytes) \
  X(pool_free_bytes) X(purged_bytes) X(decommits) X(lazy_bytes) X(deadline_releases) \
  X(deadline_bytes) X(lean_decommits) X(lean_bytes) X(superslabs_unmapped) X(superslabs_prewarmed) \
  X(prewarm_skipped) X(idle_blocks_taken) X(background_rounds) X(limit_purges) X(limit_refusals) \
  X(guard_pages) X(quarantined_blocks) X(sampled_blocks) X(long_lock_waits) X(longest_lock_wait_us)
// clang-format on

static const struct {
  const char *name;
  size_t offset;
} fields[] = {
#define FIELD(name) {#name, offsetof(hak_stats, name)},
    FIELDS(FIELD)
#undef FIELD
};
static_assert(sizeof fields / sizeof fields[0] == (sizeof(hak_stats) - 2 * sizeof(uint32_t)) / sizeof(uint64_t),
              "every figure is printed");

static void dump_one(const char *name, uint64_t value) {
  struct hak_line line = {.length = 0};
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
  dump_one("threads", stats.threads);
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    uint64_t value;
    memcpy(&value, (const char *)&stats + fields[i].offset, sizeof value);
    dump_one(fields[i].name, value);
  }
}
