// SPDX-License-Identifier: Apache-2.0
//
// Returns the memory of free runs: at once, before growth, at the deadline, and for a trim.
#include "allocator/pages/run_release.h"

#include "allocator/os/atomic.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/run_ground.h"
#include "allocator/policy/config.h"
#include "allocator/policy/low_water.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/policy/regret.h"
#include "allocator/policy/ss_release_policy.h"

// The most memory that one call returns: a multiple of the huge page and of every page size.
#define SLICE_BYTES ((size_t)4 * 1024 * 1024)
// A free run of this size or more is unmapped: its page tables and, if the kernel does not overcommit, its reserved
// memory are worth more than one mapping.
#define UNMAP_BYTES ((size_t)128 * 1024 * 1024)
// If a freed block exceeds the bound by more than this, its end is returned without being kept first.
#define BEYOND_BYTES ((size_t)64 * 1024 * 1024)

static struct {
  struct hak_low_water water;
  struct hak_regret regret;
  uint64_t peak;  // the most bytes that were committed
} release HAK_GUARDED_BY(hak_mapping_mutex);
// Nothing is due before this time. Written under the lock; read without it, relaxed: a hint.
static HAK_ATOMIC(uint64_t) next_look_ms;

// ---- Giving back --------------------------------------------------------------------------------

// Updates the records of a run in transit after its last `given_back` bytes were returned.
static void settle(struct hak_run *run, size_t given_back) HAK_REQUIRES(hak_mapping_mutex) {
  const bool all = run->dirty == run->size;
  const size_t size = run->size - given_back;
  hak_page_map_set_dirty(run->start + size, given_back, false);
  if (all && size != 0) hak_page_map_set_dirty(run->start, size, true);
  const size_t left = all ? size : hak_page_map_dirty(run->start, size);
  hak_commit_sub(run->dirty - left);
  run->dirty = left;
}

// Returns the memory of a run in transit whose dirty pages are all in the page map; steps out of the lock. Returns the
// bytes.
static size_t give_memory(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  const size_t before = run->dirty;
  struct hak_ground_edges edges;
  hak_run_ground_split(run, &edges);
  const bool renew = hak_run_ground_may_renew();
  const bool out = hak_mapping_step_out();
  hak_run_ground_advise_edges(&edges);
  size_t left = run->size;
  while (left != 0) {
    const size_t slice = left < HAK_MAPPING_SLICE ? left : HAK_MAPPING_SLICE;
    if (!hak_run_ground_decommit(run->start + left - slice, slice)) break;
    left -= slice;
  }
  if (renew) hak_run_ground_renew(run->start + left, run->size - left);
  hak_mapping_step_in(out);
  if (renew) hak_run_ground_note_renewed(run->start + left, run->size - left);
  settle(run, run->size - left);
  return before - run->dirty;
}

// Unmaps a run in transit, as far as the kernel allows; steps out of the lock. If the whole run is unmapped, drops its
// record and returns true.
static bool give_addresses(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  // All its records are removed before the call: as soon as a page is unmapped, another thread may get its address.
  hak_run_ground_forget(run->start, run->size);
  run->state = HAK_RUN_LEAVING;
  const bool out = hak_mapping_step_out();
  size_t left = run->size;
  while (left != 0) {
    const size_t slice = left < HAK_MAPPING_SLICE ? left : HAK_MAPPING_SLICE;
    if (!hak_os_unmap(run->start + left - slice, slice)) break;
    left -= slice;
  }
  hak_mapping_step_in(out);
  const size_t dirty = run->dirty < left ? run->dirty : left;
  hak_commit_sub(run->dirty - dirty);
  if (left == 0) {
    hak_run_drop(run);
    hak_run_ground_left();
    return true;
  }
  // It is no longer recorded which pages hold memory: if any does, all of the rest may.
  run->state = HAK_RUN_TRANSIT;
  run->size = left;
  run->dirty = dirty != 0 ? left : 0;
  hak_commit_add(run->dirty - dirty);
  hak_run_ground_remember(run->start, left);
  hak_page_map_set_dirty(run->start, left, dirty != 0);
  hak_page_map_set_run(run->start, left, run);
  return false;
}

// The bytes of memory that were returned from a run that had `before`. After give_addresses it may count as more.
static size_t returned(size_t before, const struct hak_run *run) {
  return before > run->dirty ? before - run->dirty : 0;
}

// Unmaps the free run, if any, that begins where addresses were unmapped and ends where the page heap has nothing, if
// it holds hardly any memory. At the heap's end it would keep the heap from growing where the unmapped addresses were.
// Returns the bytes that were returned.
static size_t give_remnant(const char *start) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_run_alone_at(start);
  if (run == NULL || run->dirty >= HAK_CHUNK_SIZE) return 0;
  const uint64_t since = run->freed_ms;
  const size_t before = run->dirty;
  hak_run_take_out(run);
  if (give_addresses(run)) return before;
  hak_run_make_free(run, since);
  return 0;
}

// Returns a run in transit and makes the rest of it free. Returns the bytes that were returned.
static size_t give_back(struct hak_run *run, bool with_addresses) HAK_REQUIRES(hak_mapping_mutex) {
  const uint64_t since = hak_os_now_ms();
  const size_t before = run->dirty;
  const char *const end = hak_run_end(run);
  if (with_addresses && give_addresses(run)) return before + give_remnant(end);
  if (run->dirty != 0) give_memory(run);
  const size_t bytes = returned(before, run);
  hak_run_make_free(run, since);
  return bytes;
}

// ---- What may be kept ---------------------------------------------------------------------------

static void note_peak(void) HAK_REQUIRES(hak_mapping_mutex) {
  const uint64_t committed = hak_commit_now();
  if (committed > release.peak) release.peak = committed;
}

// The most memory that free runs may hold, unless the program needed again what was returned because of it.
static uint64_t bound(void) HAK_REQUIRES(hak_mapping_mutex) {
  const uint64_t setting = HAK_SETTING(mapping_cache_bytes);
  if (setting == 0 || HAK_SETTING(decommit_deadline_ms) == 0) return 0;
  return release.peak / 4 > setting ? release.peak / 4 : setting;
}

static bool returns_eagerly(const struct hak_run *run) {
  const struct hak_eager_facts facts = {.mode = HAK_SETTING(lean_decommit),
                                        .committed = hak_commit_now(),
                                        .target = HAK_SETTING(lean_target_bytes),
                                        .soft_limit = HAK_SETTING(soft_limit_bytes),
                                        .free_bytes = hak_free_runs_dirty() + run->dirty,
                                        .keep_free_bytes = 0};
  return hak_eager_mode(&facts) != HAK_DECOMMIT_OFF;
}

// Marks a run that a program freed as holding memory, and makes it free.
static void keep(struct hak_run *run, uint64_t now) HAK_REQUIRES(hak_mapping_mutex) {
  if (!run->stained) hak_page_map_set_dirty(run->start, run->size, true);
  hak_run_make_free(run, now);
}

// The last whole chunks of the range that may hold memory, up to `most` bytes but at least one chunk; size 0: there are
// none.
static struct hak_range last_chunks(char *start, size_t size, size_t most) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_range range = hak_whole_chunks(start, size);
  char *const end = hak_page_map_last_dirty(range.start, range.size);
  char *const to = (char *)hak_round_up((uintptr_t)end, HAK_CHUNK_SIZE);
  const size_t wanted = hak_round_up(most != 0 ? most : 1, HAK_CHUNK_SIZE);
  range.size = (size_t)(to - range.start) < wanted ? (size_t)(to - range.start) : wanted;
  range.start = to - range.size;
  return range;
}

// Returns a part of a free run; the rest of it becomes free again. Returns the bytes that were returned. After
// hak_run_reserve(2).
static size_t give_part(struct hak_run *run, struct hak_range part, bool with_addresses)
    HAK_REQUIRES(hak_mapping_mutex) {
  hak_run_take_out(run);
  return give_back(hak_run_cut(run, part.start, part.size), with_addresses);
}

// The most free runs that one search for whole chunks checks.
#define CHUNK_LOOKS 64u

// Of the runs with whole chunks that may hold memory, the one that has been free for longest; NULL: none found. *part:
// some of these chunks, up to `most` bytes but at least one chunk.
static struct hak_run *find_chunks(size_t most, struct hak_range *part) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_run_oldest_dirty();
  for (uint32_t look = 0; run != NULL && look < CHUNK_LOOKS; look++, run = run->newer) {
    *part = last_chunks(run->start, run->size, most);
    if (part->size != 0) return run;
  }
  return NULL;
}

// Returns whole chunks of free runs, at most about `bytes`. Returns the bytes that were returned.
static size_t give_chunks(uint64_t bytes) HAK_REQUIRES(hak_mapping_mutex) {
  size_t given = 0;
  while (given < bytes && hak_run_reserve(2)) {
    const uint64_t left = bytes - given;
    struct hak_range part;
    struct hak_run *run = find_chunks(left < SLICE_BYTES ? (size_t)left : SLICE_BYTES, &part);
    const size_t step = run != NULL ? give_part(run, part, run->size >= UNMAP_BYTES) : 0;
    if (step == 0) break;
    given += step;
  }
  return given;
}

void hak_run_release_or_keep(struct hak_run *run) {
  const uint64_t now = hak_os_now_ms();
  note_peak();
  const uint64_t usual = bound();
  const uint64_t held = hak_free_runs_dirty();
  const uint64_t more = hak_regret_more(&release.regret, now, HAK_SETTING(decommit_deadline_ms));
  const uint64_t most = usual == 0 ? 0 : usual + more;
  if (more != 0 && held + run->size > usual) hak_regret_used(&release.regret, now);
  const size_t room = held < most ? (size_t)(most - held) & ~(HAK_CHUNK_SIZE - 1) : 0;
  if (most == 0 || returns_eagerly(run)) {
    give_back(run, run->size >= UNMAP_BYTES);
  } else if (run->size > room + BEYOND_BYTES && hak_run_reserve(1)) {
    struct hak_run *rest = run;
    if (room != 0) {
      rest = hak_run_split(run, room);
      keep(run, now);
    }
    hak_regret_gave(&release.regret, give_back(rest, true), now);
  } else {
    keep(run, now);
    const uint64_t beyond = hak_free_runs_dirty();
    if (beyond > most) hak_regret_gave(&release.regret, give_chunks(beyond - most), now);
  }
  hak_run_release_note(now);
}

void hak_run_release_took(uint64_t bytes) {
  if (HAK_LIKELY(!hak_regret_is_open(&release.regret))) return;
  hak_regret_took(&release.regret, bytes, hak_os_now_ms(), HAK_SETTING(decommit_deadline_ms));
}

void hak_run_release_before_growth(size_t bytes) {
  note_peak();
  // Below the peak, the program may grow back to memory that it has had before.
  if (hak_commit_now() + bytes <= release.peak || hak_free_runs_dirty() < HAK_CHUNK_SIZE) return;
  hak_low_water_took(&release.water, give_chunks(bytes));
}

void hak_run_release_dip(void) { hak_low_water_dip(&release.water, hak_free_runs_dirty()); }

void hak_run_release_note(uint64_t now) {
  note_peak();
  hak_low_water_note(&release.water, hak_free_runs_dirty(), now, HAK_SETTING(decommit_deadline_ms));
}

bool hak_run_release_may_be_due(uint64_t now) {
  return hak_free_runs_dirty() != 0 && now >= atomic_load_explicit(&next_look_ms, memory_order_relaxed);
}

// The part of a free run that is returned next: whole chunks first, then the rest.
static struct hak_range next_part(struct hak_run *run, uint64_t due) HAK_REQUIRES(hak_mapping_mutex) {
  const size_t most = due < SLICE_BYTES ? (size_t)due & ~(hak_os_page_size() - 1) : SLICE_BYTES;
  const struct hak_range chunks = last_chunks(run->start, run->size, most);
  if (chunks.size != 0) return chunks;
  char *const end = hak_page_map_last_dirty(run->start, run->size);
  const size_t size = (size_t)(end - run->start);
  const size_t slice = size < most ? size : most;
  return (struct hak_range){.start = end - slice, .size = slice};
}

bool hak_run_release_due(uint64_t now) {
  const uint64_t deadline = HAK_SETTING(decommit_deadline_ms);
  hak_run_release_note(now);
  const uint64_t due = hak_low_water_due(&release.water);
  struct hak_run *run = hak_run_oldest_dirty();
  if (due < hak_os_page_size() || run == NULL || !hak_run_reserve(2)) {
    // Relaxed: a hint.
    atomic_store_explicit(&next_look_ms, now + deadline / HAK_LOW_WATER_PARTS + 1, memory_order_relaxed);
    return false;
  }
  const size_t bytes = give_part(run, next_part(run, due), run->size >= UNMAP_BYTES);
  hak_low_water_took(&release.water, bytes != 0 ? bytes : due);
  hak_run_release_note(now);
  return bytes != 0;
}

// ---- Trim ---------------------------------------------------------------------------------------

// What one trim has done and may still do. The bound exists because other threads may take and free runs all the time,
// and must not keep the trim busy.
struct trim {
  uint64_t left;  // bytes of runs that may still be checked
  size_t bytes;   // bytes of memory that were returned
  // Runs whose addresses or memory the kernel refused. They wait here until the end; otherwise they would be found
  // again and again.
  struct hak_run *refused;
};

static void trim_run(struct trim *trim, struct hak_run *run, bool with_addresses) HAK_REQUIRES(hak_mapping_mutex) {
  hak_run_take_out(run);
  const size_t before = run->dirty;
  trim->left -= run->size < trim->left ? run->size : trim->left;
  if (with_addresses && give_addresses(run)) {
    trim->bytes += before;
  } else {
    if (run->dirty != 0) give_memory(run);
    trim->bytes += returned(before, run);
    if (run->dirty == 0 && !with_addresses) {
      // Not found again. What waits here is lost in the child of a fork, and to other requests until the end.
      hak_run_make_free(run, 0);
    } else {
      run->older = trim->refused;
      trim->refused = run;
    }
  }
  hak_mapping_pass();
}

HAK_COLD size_t hak_run_release_all(void) {
  struct trim trim = {.left = hak_free_runs_bytes(), .bytes = 0, .refused = NULL};
  struct hak_run *run;
  while (trim.left != 0 && (run = hak_run_largest()) != NULL && run->size >= HAK_CHUNK_SIZE) trim_run(&trim, run, true);
  while (trim.left != 0 && (run = hak_run_next_alone()) != NULL) trim_run(&trim, run, true);
  while (trim.left != 0 && (run = hak_run_oldest_dirty()) != NULL) trim_run(&trim, run, false);
  while ((run = trim.refused) != NULL) {
    trim.refused = run->older;
    hak_run_make_free(run, hak_os_now_ms());
  }
  hak_run_ground_tidy();
  hak_low_water_took(&release.water, UINT64_MAX);
  hak_run_release_note(hak_os_now_ms());
  return trim.bytes;
}
