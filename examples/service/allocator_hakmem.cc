// SPDX-License-Identifier: Apache-2.0
#include <hakmem/hakmem.h>

#include "allocator.h"

namespace kv {
namespace {

// How a field of hak_stats is exported: hakmem_<name>. Counters end in _total, amounts of memory in _bytes.
struct Statistic {
  const char *name;
  const char *help;
  uint64_t hak_stats::*field;
};

constexpr Statistic kGauges[] = {
    {"live_blocks", "Blocks that the program holds.", &hak_stats::live_blocks},
    {"live_bytes", "Usable bytes of the blocks that the program holds.", &hak_stats::live_bytes},
    {"cached_blocks", "Freed small blocks that threads keep for themselves.", &hak_stats::cached_blocks},
    {"cached_bytes", "Bytes of freed small blocks that threads keep for themselves.", &hak_stats::cached_bytes},
    {"mapped_bytes", "Address space mapped for blocks and records.", &hak_stats::mapped_bytes},
    {"committed_bytes", "Mapped memory that may be resident.", &hak_stats::committed_bytes},
    {"mapped_max_bytes", "The highest value of hakmem_mapped_bytes.", &hak_stats::peak_mapped_bytes},
    {"metadata_bytes", "Mapped memory that holds records rather than blocks.", &hak_stats::metadata_bytes},
    {"superslabs", "Regions of 2 MiB mapped.", &hak_stats::superslabs},
    {"slabs_used", "Slabs of 64 KiB in use for small blocks.", &hak_stats::slabs_used},
    {"slabs_free", "Free slabs of 64 KiB.", &hak_stats::slabs_free},
    {"large_blocks", "Live blocks too large for a slab.", &hak_stats::large_blocks},
    {"large_bytes", "Usable bytes of live blocks too large for a slab.", &hak_stats::large_bytes},
    {"heap_free_bytes", "Bytes of free blocks in slabs that threads own.", &hak_stats::heap_free_bytes},
    {"pool_free_bytes", "Bytes of free slabs that may be resident.", &hak_stats::pool_free_bytes},
    {"purged_bytes", "Free pages of partly used slabs that were returned.", &hak_stats::purged_bytes},
    {"lazy_bytes", "Bytes that the kernel may take when it needs them.", &hak_stats::lazy_bytes},
    {"guard_pages", "Guard pages of slabs now.", &hak_stats::guard_pages},
    {"quarantined_blocks", "Freed blocks that may not be reused yet.", &hak_stats::quarantined_blocks},
};

constexpr Statistic kCounters[] = {
    {"refills_total", "Times that a thread's cache ran empty.", &hak_stats::refills},
    {"flushes_total", "Times that a thread's cache ran full.", &hak_stats::flushes},
    {"remote_batches_total", "Batches of remote frees pushed to other threads' slabs.", &hak_stats::remote_batches},
    {"slabs_adopted_total", "Slabs of ended threads that other threads adopted.", &hak_stats::slabs_adopted},
    {"decommitted_bytes_total", "Bytes returned to the operating system by decommit.", &hak_stats::decommitted_bytes},
    {"decommits_total", "Successful calls that returned pages.", &hak_stats::decommits},
    {"os_calls_total", "Memory system calls.", &hak_stats::os_calls},
    {"deadline_releases_total", "Superslabs whose free memory was returned at the deadline.",
     &hak_stats::deadline_releases},
    {"deadline_released_bytes_total", "Bytes returned at the deadline.", &hak_stats::deadline_bytes},
    {"lean_decommits_total", "Slabs that LEAN decommitted as soon as they were free.", &hak_stats::lean_decommits},
    {"lean_released_bytes_total", "Bytes that LEAN returned at once.", &hak_stats::lean_bytes},
    {"superslabs_unmapped_total", "Superslabs returned with their addresses.", &hak_stats::superslabs_unmapped},
    {"superslabs_prewarmed_total", "Superslabs populated at the start.", &hak_stats::superslabs_prewarmed},
    {"prewarm_skipped_total", "Superslabs not prewarmed because of LEAN.", &hak_stats::prewarm_skipped},
    {"idle_blocks_taken_total", "Blocks taken out of the caches of idle threads.", &hak_stats::idle_blocks_taken},
    {"background_rounds_total", "Rounds of the purge thread.", &hak_stats::background_rounds},
    {"limit_purges_total", "Times that memory was returned before growth because of a limit.",
     &hak_stats::limit_purges},
    {"limit_refusals_total", "Times that growth was refused because of the limit.", &hak_stats::limit_refusals},
    {"sampled_blocks_total", "Small blocks that got guard pages of their own.", &hak_stats::sampled_blocks},
};

}  // namespace

std::string AllocatorName() { return std::string("hakmem ") + hak_version(); }

void WriteAllocatorMetrics(PrometheusText *out) {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  if (hak_stats_get(&stats) != 0) return;
  out->Family("hakmem_build_info", "gauge", "Always 1; the label tells the version and the build profile.");
  out->Sample("", {{"version", hak_version()}}, uint64_t{1});
  out->Gauge("hakmem_threads", "Threads that have a heap of their own.", stats.threads);
  for (const Statistic &statistic : kGauges) {
    out->Gauge(std::string("hakmem_") + statistic.name, statistic.help, stats.*statistic.field);
  }
  for (const Statistic &statistic : kCounters) {
    out->Counter(std::string("hakmem_") + statistic.name, statistic.help, stats.*statistic.field);
  }
}

HeapProfile TakeHeapProfile() {
  return {501, "text/plain; charset=utf-8", std::string("hakmem ") + hak_version() + " has no heap profiler\n"};
}

}  // namespace kv
