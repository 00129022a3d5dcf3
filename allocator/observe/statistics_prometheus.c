// SPDX-License-Identifier: Apache-2.0
//
// The statistics in Prometheus's text exposition format 0.0.4. A family is a counter if its name ends in _total.
#include "allocator/observe/statistics_prometheus.h"

#include "allocator/observe/statistics.h"
#include "allocator/observe/text.h"
#include "allocator/os/bytes.h"
#include "allocator/os/os.h"

// X(field of hak_stats, name of the metric after hakmem_, help), in the order of hak_stats.
// clang-format off
#define METRICS(X) \
  X(live_blocks, "live_blocks", "Blocks that the program holds.") \
  X(live_bytes, "live_bytes", "Usable bytes of the blocks that the program holds.") \
  X(cached_blocks, "cached_blocks", "Freed small blocks that threads keep.") \
  X(cached_bytes, "cached_bytes", "Bytes of freed small blocks that threads keep.") \
  X(mapped_bytes, "mapped_bytes", "Address space mapped for blocks and records.") \
  X(committed_bytes, "committed_bytes", "Mapped memory that may be resident.") \
  X(peak_mapped_bytes, "mapped_max_bytes", "The highest value of hakmem_mapped_bytes.") \
  X(metadata_bytes, "metadata_bytes", "Mapped memory that holds records.") \
  X(superslabs, "superslabs", "Regions of 2 MiB mapped.") \
  X(slabs_used, "slabs_used", "Slabs of 64 KiB in use for small blocks.") \
  X(slabs_free, "slabs_free", "Free slabs of 64 KiB.") \
  X(large_blocks, "large_blocks", "Live blocks without a size class.") \
  X(large_bytes, "large_bytes", "Usable bytes of live blocks without a size class.") \
  X(refills, "refills_total", "Times that a thread's cache ran empty.") \
  X(flushes, "flushes_total", "Times that a thread's cache ran full.") \
  X(remote_batches, "remote_batches_total", "Batches of frees pushed to other threads' slabs.") \
  X(slabs_adopted, "slabs_adopted_total", "Slabs of ended threads that others adopted.") \
  X(decommitted_bytes, "decommitted_bytes_total", "Bytes returned to the system by decommit.") \
  X(os_calls, "os_calls_total", "Memory system calls.") \
  X(heap_free_bytes, "heap_free_bytes", "Bytes of free blocks in slabs that threads own.") \
  X(pool_free_bytes, "pool_free_bytes", "Bytes of free slabs that may be resident.") \
  X(purged_bytes, "purged_bytes", "Free pages of partly used slabs that were returned.") \
  X(decommits, "decommits_total", "Successful calls that returned pages.") \
  X(lazy_bytes, "lazy_bytes", "Bytes that the kernel may take when it needs them.") \
  X(deadline_releases, "deadline_releases_total", "Superslabs whose free memory was returned in time.") \
  X(deadline_bytes, "deadline_released_bytes_total", "Bytes returned at the deadline.") \
  X(lean_decommits, "lean_decommits_total", "Slabs that were decommitted as soon as they were free.") \
  X(lean_bytes, "lean_released_bytes_total", "Bytes that LEAN returned at once.") \
  X(superslabs_unmapped, "superslabs_unmapped_total", "Superslabs returned with their addresses.") \
  X(superslabs_prewarmed, "superslabs_prewarmed_total", "Superslabs populated at the start.") \
  X(prewarm_skipped, "prewarm_skipped_total", "Superslabs not prewarmed because of LEAN.") \
  X(idle_blocks_taken, "idle_blocks_taken_total", "Blocks taken out of idle threads' caches.") \
  X(background_rounds, "background_rounds_total", "Rounds of the purge thread.") \
  X(limit_purges, "limit_purges_total", "Times that a limit made hakmem return memory first.") \
  X(limit_refusals, "limit_refusals_total", "Times that the limit refused growth.") \
  X(guard_pages, "guard_pages", "Guard pages of slabs now.") \
  X(quarantined_blocks, "quarantined_blocks", "Freed blocks that may not be reused yet.") \
  X(sampled_blocks, "sampled_blocks_total", "Small blocks that got guard pages of their own.") \
  X(long_lock_waits, "long_lock_waits_total", "Waits of a millisecond or more for a lock.") \
  X(longest_lock_wait_us, "longest_lock_wait_seconds", "The longest wait for a lock.")
// clang-format on

// The rows as hak_statistics_for_each visits them: first the threads. Arrays, not pointers, which the dynamic linker
// would have to relocate.
static const struct {
  char name[32];
  char help[56];
} metrics[] = {{"threads", "Threads that have a heap of their own."},
#define ROW(field, name_, help_) {name_, help_},
               METRICS(ROW)
#undef ROW
};
enum {
  INDEX_threads,
#define ROW(field, name_, help_) INDEX_##field,
  METRICS(ROW)
#undef ROW
      COUNT
};
#define ROW(field, name_, help_)                                                                               \
  static_assert(                                                                                               \
      offsetof(hak_stats, field) == offsetof(hak_stats, live_blocks) + (INDEX_##field - 1) * sizeof(uint64_t), \
      "the order of hak_stats");                                                                               \
  static_assert(sizeof(name_) <= sizeof metrics[0].name && sizeof(help_) <= sizeof metrics[0].help, "the text fits");
METRICS(ROW)
#undef ROW
static_assert(sizeof(hak_stats) == offsetof(hak_stats, live_blocks) + (COUNT - 1) * sizeof(uint64_t), "all have a row");

static HAK_COLD bool is_counter(const char *name) {
  static const char ending[] = "_total";
  size_t matched = 0;
  for (; *name != '\0'; name++) matched = *name == ending[matched] ? matched + 1 : *name == ending[0];
  return ending[matched] == '\0';
}

static HAK_COLD void put_name(struct hak_text *text, const char *before, const char *name, const char *after) {
  hak_text_put(text, before);
  hak_text_put(text, "hakmem_");
  hak_text_put(text, name);
  hak_text_put(text, after);
}

static HAK_COLD void family(struct hak_text *text, const char *name, const char *help) {
  put_name(text, "# HELP ", name, " ");
  hak_text_put(text, help);
  put_name(text, "\n# TYPE ", name, is_counter(name) ? " counter\n" : " gauge\n");
}

// Microseconds as seconds, Prometheus's unit of time.
static HAK_COLD void put_seconds(struct hak_text *text, uint64_t us) {
  hak_text_number(text, us / 1000000);
  hak_text_put(text, ".");
  for (uint64_t digit = 100000; digit != 0; digit /= 10) hak_text_number(text, us / digit % 10);
}

static HAK_COLD void value(struct hak_text *text, uint64_t number) {
  hak_text_put(text, " ");
  hak_text_number(text, number);
  hak_text_put(text, "\n");
}

// A family of one sample without labels; UINT64_MAX: of none.
static HAK_COLD void single(struct hak_text *text, const char *name, const char *help, uint64_t number) {
  family(text, name, help);
  if (number == UINT64_MAX) return;
  put_name(text, "", name, "");
  value(text, number);
}

struct process {
  struct hak_text *text;
  size_t next;  // index into `metrics`
};

static HAK_COLD void put_statistic(const char *field, uint64_t number, void *context) {
  (void)field;
  struct process *process = context;
  const size_t i = process->next++;
  if (i != INDEX_longest_lock_wait_us) {
    single(process->text, metrics[i].name, metrics[i].help, number);
    return;
  }
  family(process->text, metrics[i].name, metrics[i].help);
  put_name(process->text, "", metrics[i].name, " ");
  put_seconds(process->text, number);
  hak_text_put(process->text, "\n");
}

// A sample with a size as its label; UINT64_MAX: without an end.
static HAK_COLD void by_size(struct hak_text *text, const char *name, const char *label, uint64_t bytes,
                             uint64_t number) {
  put_name(text, "", name, "{");
  hak_text_put(text, label);
  if (bytes != UINT64_MAX) {
    hak_text_number(text, bytes);
  } else {
    hak_text_put(text, "+Inf");
  }
  hak_text_put(text, "\"}");
  value(text, number);
}

// The fields of hak_class_statistics, in their order.
static const struct {
  char name[24];
  char help[64];
} class_metrics[] = {
    {"class_slabs", "Slabs of 64 KiB of the size class."},
    {"class_live_blocks", "Blocks of the size class that the program holds."},
    {"class_cached_blocks", "Freed blocks in thread caches and in quarantine."},
    {"class_remote_blocks", "Blocks that other threads freed, on the way to their slabs."},
    {"class_free_blocks", "Blocks that are free in their slabs."},
    {"class_fresh_blocks", "Blocks in slabs of the class that were never handed out."},
};
#define CLASS_METRICS (sizeof class_metrics / sizeof class_metrics[0])
static_assert(sizeof(struct hak_class_statistics) == CLASS_METRICS * sizeof(uint64_t), "every field has one row");

// A class without slabs has no samples, so that a scrape has not hundreds of zeros.
static HAK_COLD void put_classes(struct hak_text *text, const struct hak_all_statistics *all) {
  for (size_t i = 0; i < CLASS_METRICS; i++) {
    family(text, class_metrics[i].name, class_metrics[i].help);
    for (uint32_t class_id = 1; class_id < HAK_CLASS_COUNT; class_id++) {
      if (all->classes[class_id].slabs == 0) continue;
      uint64_t number;
      hak_bytes_copy(&number, (const char *)&all->classes[class_id] + i * sizeof number, sizeof number);
      by_size(text, class_metrics[i].name, "block_bytes=\"", hak_class_usable(class_id), number);
    }
  }
}

static HAK_COLD void put_large(struct hak_text *text, const struct hak_all_statistics *all) {
  for (uint32_t i = 0; i < 2; i++) {
    const char *name = i == 0 ? "large_range_blocks" : "large_range_bytes";
    family(text, name, "Live blocks without a size class, by usable size up to up_to bytes.");
    for (uint32_t range = 0; range < HAK_LARGE_RANGES; range++) {
      const struct hak_large_statistics *of = &all->large[range];
      by_size(text, name, "up_to=\"", hak_large_range_end(range), i == 0 ? of->blocks : of->bytes);
    }
  }
}

HAK_COLD size_t hak_statistics_prometheus(char *buffer, size_t size, const char *build) {
  struct hak_all_statistics all;
  hak_statistics_gather_all(&all);
  struct hak_text text = {.buffer = buffer, .size = size};
  family(&text, "build_info", "Always 1; the label tells the version and the build profile.");
  put_name(&text, "", "build_info", "{version=\"");
  hak_text_put(&text, build);
  hak_text_put(&text, "\"} 1\n");
  struct process process = {.text = &text, .next = 0};
  hak_statistics_for_each(&all.process, put_statistic, &process);
  const uint64_t resident = hak_os_resident_bytes();
  single(&text, "resident_bytes", "Resident memory of the whole process.", resident != 0 ? resident : UINT64_MAX);
  single(&text, "empty_blocks", "Live blocks of size 0 that have no class.", all.empty_blocks);
  single(&text, "memory_limit_bytes", "HAKMEM_MEMORY_LIMIT_MB, if it is set.", all.memory_limit);
  single(&text, "group_limit_bytes", "The limit of the control group, if there is one.", all.group_limit);
  single(&text, "purge_limit_bytes", "Committed bytes beyond which free memory is returned first.", all.purge_limit);
  put_classes(&text, &all);
  put_large(&text, &all);
  return hak_text_end(&text);
}
