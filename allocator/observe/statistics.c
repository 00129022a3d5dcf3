// SPDX-License-Identifier: Apache-2.0
#include "allocator/observe/statistics.h"

#include "allocator/large/mapping.h"
#include "allocator/os/os.h"
#include "allocator/tiny/heap.h"
#include "allocator/tiny/meta.h"
#include "allocator/tiny/slab_pool.h"

// Figures read one after another while other threads work need not fit together: nothing goes below zero.
static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

void hak_statistics_gather(hak_stats *stats) {
  const struct hak_pool_totals pool = hak_pool_totals();
  const struct hak_heap_totals heaps = hak_heap_totals();
  const struct hak_mapping_totals mappings = hak_mapping_totals();
  const struct hak_os_totals os = hak_os_totals();
  const uint64_t records = hak_meta_mapped();
  const uint64_t heads = pool.superslabs * HAK_SUPERSLAB_HEAD;
  stats->version = HAK_STATS_VERSION;
  stats->threads = heaps.threads;
  stats->large_blocks = pool.spans + mappings.blocks;
  stats->large_bytes = pool.span_bytes + mappings.bytes;
  stats->cached_blocks = heaps.cached_blocks;
  stats->cached_bytes = heaps.cached_bytes;
  stats->live_blocks = less(pool.tiny_blocks, heaps.cached_blocks + pool.remote_blocks) + stats->large_blocks;
  stats->live_bytes = less(pool.tiny_bytes, heaps.cached_bytes + pool.remote_bytes) + stats->large_bytes;
  stats->mapped_bytes = os.mapped;
  stats->peak_mapped_bytes = os.peak_mapped;
  stats->committed_bytes = less(os.mapped, (pool.slabs_free - pool.slabs_free_dirty) * HAK_SLAB_SIZE);
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
}
