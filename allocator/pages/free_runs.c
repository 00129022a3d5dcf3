// SPDX-License-Identifier: Apache-2.0
//
// Free runs: merging, the index and the queue; and the records of all runs.
#include "allocator/pages/free_runs.h"

#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/run_index.h"

// Records are allocated in batches of about this many bytes.
#define BATCH_BYTES ((size_t)4096)
// How many free runs a request with an alignment tries before it takes a run that is larger by the alignment.
#define ALIGNED_LOOKS 64u

struct batch {
  struct batch *next;
  uint64_t unused_bytes;  // keeps the records at a multiple of 16
  struct hak_run runs[(BATCH_BYTES - 16) / sizeof(struct hak_run)];
};
static_assert(sizeof(struct batch) <= BATCH_BYTES, "a batch is one record of meta");
#define BATCH_RUNS (sizeof((struct batch *)NULL)->runs / sizeof(struct hak_run))

static struct {
  struct batch *batches;
  struct hak_run *unused;
  uint32_t unused_count;
  struct hak_run_index index;
  struct hak_run *oldest;
  struct hak_run *newest;
  // Written under the lock; read without it as a hint, relaxed.
  HAK_ATOMIC(uint64_t) bytes;
  HAK_ATOMIC(uint64_t) dirty;
} pages HAK_GUARDED_BY(hak_mapping_mutex);

// ---- Records ------------------------------------------------------------------------------------

bool hak_run_reserve(uint32_t count) {
  while (pages.unused_count < count) {
    struct batch *batch = hak_meta_alloc(sizeof *batch);
    if (batch == NULL) return false;
    batch->next = pages.batches;
    pages.batches = batch;
    for (size_t i = 0; i < BATCH_RUNS; i++) hak_run_drop(&batch->runs[i]);
  }
  return true;
}

const char *hak_run_records(void) { return (const char *)pages.batches; }

struct hak_run *hak_run_new(char *start, size_t size, size_t dirty) {
  struct hak_run *run = pages.unused;
  pages.unused = run->next_unused;
  pages.unused_count--;
  *run = (struct hak_run){.start = start, .size = size, .dirty = dirty, .state = HAK_RUN_TRANSIT};
  hak_page_map_set_run(start, size, run);
  return run;
}

void hak_run_drop(struct hak_run *run) {
  *run = (struct hak_run){.state = HAK_RUN_UNUSED, .next_unused = pages.unused};
  pages.unused = run;
  pages.unused_count++;
}

struct hak_run *hak_run_split(struct hak_run *run, size_t size) {
  char *const cut = run->start + size;
  const size_t rest_size = run->size - size;
  size_t rest_dirty = 0;
  if (run->state == HAK_RUN_TRANSIT && run->dirty != 0) {
    if (run->dirty == run->size) {
      rest_dirty = rest_size;
    } else if (rest_size <= size) {
      rest_dirty = hak_page_map_dirty(cut, rest_size);
    } else {
      rest_dirty = run->dirty - hak_page_map_dirty(run->start, size);
    }
    run->dirty -= rest_dirty;
  }
  run->size = size;
  hak_page_map_set_run(run->start, size, run);
  return hak_run_new(cut, rest_size, rest_dirty);
}

void hak_run_for_each(void (*visit)(const struct hak_run *run, void *context), void *context) {
  for (const struct batch *batch = pages.batches; batch != NULL; batch = batch->next) {
    for (size_t i = 0; i < BATCH_RUNS; i++) {
      if (batch->runs[i].state != HAK_RUN_UNUSED) visit(&batch->runs[i], context);
    }
  }
}

// ---- Totals -------------------------------------------------------------------------------------

static void add(HAK_ATOMIC(uint64_t) * total, uint64_t change) {
  // Relaxed, no read-modify-write: under the lock.
  atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + change, memory_order_relaxed);
}
HAK_NO_THREAD_SAFETY_ANALYSIS("a hint")
uint64_t hak_free_runs_bytes(void) { return atomic_load_explicit(&pages.bytes, memory_order_relaxed); }
HAK_NO_THREAD_SAFETY_ANALYSIS("a hint")
uint64_t hak_free_runs_dirty(void) { return atomic_load_explicit(&pages.dirty, memory_order_relaxed); }

// ---- Queue --------------------------------------------------------------------------------------

// Whether the queue stays in order with the run behind this one.
static bool belongs_behind(const struct hak_run *run, const struct hak_run *older) {
  return older->freed_ms <= run->freed_ms && (older->newer == NULL || run->freed_ms <= older->newer->freed_ms);
}

// `hint`: a run of the queue, or NULL.
static void enqueue(struct hak_run *run, struct hak_run *hint) HAK_REQUIRES(hak_mapping_mutex) {
  // Usually the run goes behind the newest one. If a part of an old run was returned, the rest goes in front of the
  // oldest one, and if a part was taken, where the run was. In other cases it goes where its time belongs.
  const bool is_oldest = pages.oldest != NULL && run->freed_ms <= pages.oldest->freed_ms;
  struct hak_run *older = is_oldest ? NULL : pages.newest;
  if (!is_oldest && hint != NULL && belongs_behind(run, hint)) older = hint;
  while (older != NULL && older->freed_ms > run->freed_ms) older = older->older;
  run->older = older;
  run->newer = older != NULL ? older->newer : pages.oldest;
  *(run->newer != NULL ? &run->newer->older : &pages.newest) = run;
  *(older != NULL ? &older->newer : &pages.oldest) = run;
}

static void dequeue(struct hak_run *run) {
  *(run->newer != NULL ? &run->newer->older : &pages.newest) = run->older;
  *(run->older != NULL ? &run->older->newer : &pages.oldest) = run->newer;
}

struct hak_run *hak_run_oldest_dirty(void) { return pages.oldest; }

// ---- Free runs ----------------------------------------------------------------------------------

// The run that ends or begins at an address, in whatever state; NULL: there is none.
static struct hak_run *ending_at(const char *address) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_page_map_run(address - HAK_PAGE_SIZE);
  return run != NULL && run->state != HAK_RUN_UNUSED && hak_run_end(run) == address ? run : NULL;
}
static struct hak_run *beginning_at(const char *address) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_page_map_run(address);
  return run != NULL && run->state != HAK_RUN_UNUSED && run->start == address ? run : NULL;
}

struct hak_run *hak_run_free_before(const char *address) {
  struct hak_run *run = ending_at(address);
  return run != NULL && run->state == HAK_RUN_FREE ? run : NULL;
}

struct hak_run *hak_run_free_after(const struct hak_run *run) {
  struct hak_run *after = beginning_at(hak_run_end(run));
  return after != NULL && after->state == HAK_RUN_FREE ? after : NULL;
}

void hak_run_take_out(struct hak_run *run) {
  hak_run_index_remove(&pages.index, run);
  if (run->dirty != 0) {
    dequeue(run);
  } else {
    run->older = NULL;
  }
  add(&pages.bytes, 0 - (uint64_t)run->size);
  add(&pages.dirty, 0 - (uint64_t)run->dirty);
  run->state = HAK_RUN_TRANSIT;
}

// Merges a free neighbour into the run.
static void absorb(struct hak_run *run, struct hak_run *free) HAK_REQUIRES(hak_mapping_mutex) {
  hak_run_take_out(free);
  if (free->start < run->start) run->start = free->start;
  run->size += free->size;
  run->dirty += free->dirty;
  if (free->dirty != 0 && free->freed_ms > run->freed_ms) run->freed_ms = free->freed_ms;
  hak_run_drop(free);
}

// `older`: as for enqueue.
static void make_free(struct hak_run *run, uint64_t since, struct hak_run *older) HAK_REQUIRES(hak_mapping_mutex) {
  run->freed_ms = run->dirty != 0 ? since : 0;
  struct hak_run *before = hak_run_free_before(run->start);
  struct hak_run *after = hak_run_free_after(run);
  if (before != NULL) absorb(run, before);
  if (after != NULL) absorb(run, after);
  hak_page_map_set_run(run->start, run->size, run);
  run->state = HAK_RUN_FREE;
  hak_run_index_insert(&pages.index, run);
  if (run->dirty != 0) enqueue(run, older);
  add(&pages.bytes, run->size);
  add(&pages.dirty, run->dirty);
}

void hak_run_make_free(struct hak_run *run, uint64_t since) { make_free(run, since, NULL); }

struct hak_run *hak_run_cut(struct hak_run *run, char *at, size_t size) {
  const uint64_t since = run->freed_ms;
  struct hak_run *const older = run->older;  // Still in the queue.
  if (at != run->start) {
    struct hak_run *head = run;
    run = hak_run_split(head, (size_t)(at - head->start));
    make_free(head, since, older);
  }
  if (run->size != size) make_free(hak_run_split(run, size), since, older);
  return run;
}

static bool has_room(const struct hak_run *run, size_t size, size_t align) {
  const uintptr_t start = hak_round_up((uintptr_t)run->start, align);
  return start - (uintptr_t)run->start <= run->size - size;
}

struct hak_run *hak_run_find(size_t size, size_t align) {
  struct hak_run *run = hak_run_index_find(&pages.index, size, NULL);
  for (uint32_t look = 0; run != NULL && look < ALIGNED_LOOKS; look++) {
    if (has_room(run, size, align)) return run;
    run = hak_run_index_find(&pages.index, run->size, run->start + 1);
  }
  return run != NULL ? hak_run_index_find(&pages.index, size + align, NULL) : NULL;
}

struct hak_run *hak_run_largest(void) { return hak_run_index_last(&pages.index); }

static bool is_alone(const struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  return ending_at(run->start) == NULL && beginning_at(hak_run_end(run)) == NULL;
}

struct hak_run *hak_run_next_alone(void) {
  struct hak_run *run = hak_run_index_find(&pages.index, 0, NULL);
  while (run != NULL && !is_alone(run)) run = hak_run_index_find(&pages.index, run->size, run->start + 1);
  return run;
}

struct hak_run *hak_run_alone_at(const char *start) {
  struct hak_run *run = beginning_at(start);
  return run != NULL && run->state == HAK_RUN_FREE && is_alone(run) ? run : NULL;
}

HAK_COLD void hak_free_runs_start_anew(void) {
  pages.unused = pages.oldest = pages.newest = NULL;
  hak_bytes_fill(&pages.index, 0, sizeof pages.index);
  pages.unused_count = 0;
  atomic_store_explicit(&pages.bytes, 0, memory_order_relaxed);
  atomic_store_explicit(&pages.dirty, 0, memory_order_relaxed);
  for (struct batch *batch = pages.batches; batch != NULL; batch = batch->next) {
    for (size_t i = 0; i < BATCH_RUNS; i++) {
      struct hak_run *run = &batch->runs[i];
      if (run->state == HAK_RUN_UNUSED) {
        hak_run_drop(run);
      } else if (run->state != HAK_RUN_LIVE) {
        run->state = HAK_RUN_LOST;
      }
    }
  }
}

// ---- Verification -------------------------------------------------------------------------------

struct sums {
  uint64_t bytes;
  uint64_t dirty;
  uint64_t with_memory;
  const char *fault;
};

static HAK_COLD void check(const struct hak_run *run, void *context) HAK_REQUIRES(hak_mapping_mutex) {
  struct sums *sums = context;
  if (run->state == HAK_RUN_LEAVING || run->state == HAK_RUN_LOST) return;
  if (run->size == 0 || ((uintptr_t)run->start | run->size) % HAK_PAGE_SIZE != 0)
    sums->fault = "run off page boundaries";
  if (hak_page_map_run(run->start) != run || hak_page_map_run(hak_run_end(run) - HAK_PAGE_SIZE) != run) {
    sums->fault = "run that the page map does not know";
  }
  if (run->state != HAK_RUN_FREE) return;
  if (hak_run_free_after(run) != NULL) sums->fault = "free runs that were not merged";
  if (run->dirty != hak_page_map_dirty(run->start, run->size)) sums->fault = "free run miscounted";
  if (hak_run_index_find(&pages.index, run->size, run->start) != run) sums->fault = "free run outside the index";
  sums->bytes += run->size;
  sums->dirty += run->dirty;
  sums->with_memory += run->dirty != 0;
}

HAK_COLD const char *hak_free_runs_verify(void) {
  struct sums sums = {.fault = NULL};
  hak_run_for_each(check, &sums);
  if (sums.fault != NULL) return sums.fault;
  if (sums.bytes != hak_free_runs_bytes() || sums.dirty != hak_free_runs_dirty()) return "free runs miscounted";
  uint64_t queued = 0;
  for (const struct hak_run *run = pages.oldest; run != NULL; run = run->newer) {
    queued++;
    if (run->dirty == 0 || run->state != HAK_RUN_FREE) return "queue of free runs with one that holds no memory";
    if (run->newer != NULL && run->newer->freed_ms < run->freed_ms) return "queue of free runs out of order";
  }
  return queued == sums.with_memory ? NULL : "free run outside the queue";
}
