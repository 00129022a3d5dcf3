// SPDX-License-Identifier: Apache-2.0
//
// The page heap: taking, giving and resizing blocks.
#include "allocator/pages/page_heap.h"

#include "allocator/os/bytes.h"
#include "allocator/os/os.h"
#include "allocator/pages/colour.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_map.h"
#include "allocator/pages/run_ground.h"
#include "allocator/pages/run_move.h"
#include "allocator/pages/run_release.h"
#include "allocator/policy/memory_limit.h"

// From this size on the kernel moves pages faster than memory can be copied.
#define MOVE_BYTES ((size_t)1024 * 1024)

static struct {
  uint64_t blocks;
  uint64_t bytes;  // usable
} live HAK_GUARDED_BY(hak_mapping_mutex);

static uint32_t turn HAK_GUARDED_BY(hak_mapping_mutex);  // of the colours

static char *page_of(const void *block) { return (char *)((uintptr_t)block & ~(HAK_PAGE_SIZE - 1)); }

static size_t usable(const struct hak_run *run) { return hak_colour_usable(run->size, run->front); }

static void count_in(const struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  live.blocks++;
  live.bytes += usable(run);
}
static void count_out(const struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  live.blocks--;
  live.bytes -= usable(run);
}

// The run of a live block, or NULL.
static struct hak_run *find(const void *block) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_page_map_run(page_of(block));
  return run != NULL && run->state == HAK_RUN_LIVE && run->start + run->front == block ? run : NULL;
}

static uint32_t get_tag(const char *page) { return hak_page_tag(hak_page_entry_at(page)); }

// ---- Locking ------------------------------------------------------------------------------------

struct sums {
  uint64_t blocks;
  uint64_t bytes;
  uint64_t mapped;
  bool (*fits)(uint32_t tag, size_t size);  // may be NULL
  bool misfits;                             // some block's run is not of the size that its tag stands for
};

static bool is_mapped(const struct hak_run *run) { return run->state != HAK_RUN_LEAVING && run->state != HAK_RUN_LOST; }

static void add_up(const struct hak_run *run, void *context) {
  struct sums *sums = context;
  if (is_mapped(run)) sums->mapped += run->size;
  if (run->state != HAK_RUN_LIVE) return;
  sums->blocks++;
  sums->bytes += usable(run);
  if (sums->fits != NULL && !sums->fits(get_tag(run->start), run->size)) sums->misfits = true;
}

static void enter_again(const struct hak_run *run, void *context) HAK_REQUIRES(hak_mapping_mutex) {
  (void)context;
  if (is_mapped(run)) hak_page_map_enter(run->start, run->size);
}

// The losses of the lock's holders for which the page heap has started anew.
static uint32_t losses HAK_GUARDED_BY(hak_mapping_mutex);

static HAK_COLD void start_anew(void) HAK_REQUIRES(hak_mapping_mutex) {
  losses = hak_mapping_losses();
  hak_free_runs_start_anew();
  struct sums sums = {.blocks = 0};
  hak_run_for_each(add_up, &sums);
  live.blocks = sums.blocks;
  live.bytes = sums.bytes;
  hak_run_ground_start_anew(sums.mapped);
  hak_page_map_start_anew();
  hak_run_for_each(enter_again, NULL);
}

static void lock(void) HAK_ACQUIRE(hak_mapping_mutex) {
  hak_mapping_lock();
  if (HAK_UNLIKELY(losses != hak_mapping_losses())) start_anew();
}

static void set_tag(char *page, uint32_t tag) { hak_page_set_tag(hak_page_entry_at(page), tag); }
// Tags the first page of a live run; 0: no tag.
static void tag_block(const struct hak_run *run, uint32_t tag) {
  set_tag(run->start, tag != 0 ? tag | run->front / HAK_CACHE_LINE << 8 : 0);
}

// ---- Taking -------------------------------------------------------------------------------------

// The part of a run that takes memory when `size` bytes at `at` are touched: these bytes, and the rest of the huge
// pages at both ends that belongs to the run.
static struct hak_range touched_part(const struct hak_run *run, char *at, size_t size) {
  char *from = at;
  char *to = at + size;
  if (hak_chunk_of(from)->huge) from = hak_chunk_start(from);
  if (hak_chunk_of(to - 1)->huge) to = hak_chunk_start(to - 1) + HAK_CHUNK_SIZE;
  if (from < run->start) from = run->start;
  if (to > hak_run_end(run)) to = hak_run_end(run);
  return (struct hak_range){.start = from, .size = (size_t)(to - from)};
}

// Takes out a free run whose `size` bytes at `at` are about to be used, and accounts for the memory that they take.
// False: this would exceed the limit, and nothing changed.
static bool take_out(struct hak_run *run, char *at, size_t size) HAK_REQUIRES(hak_mapping_mutex) {
  if (run->dirty == run->size) {
    hak_run_take_out(run);
    return true;
  }
  const struct hak_range part = touched_part(run, at, size);
  const size_t clean = run->dirty == 0 ? part.size : part.size - hak_page_map_dirty(part.start, part.size);
  if (clean != 0 && !hak_limit_admit(clean)) return false;
  hak_run_take_out(run);
  hak_commit_add(clean);
  hak_run_release_took(clean);
  char *const end = at + size;
  const size_t in_front = (size_t)(at - part.start);
  const size_t behind = (size_t)(part.start + part.size - end);
  if (in_front + behind == 0) return true;
  if (run->dirty == 0) run->freed_ms = hak_os_now_ms();
  run->dirty += in_front - hak_page_map_dirty(part.start, in_front) + behind - hak_page_map_dirty(end, behind);
  hak_page_map_set_dirty(part.start, in_front, true);
  hak_page_map_set_dirty(end, behind, true);
  return true;
}

// Takes a suitable free run, cut to size; NULL: there is none, or its memory would exceed the limit.
static struct hak_run *reuse(size_t size, size_t align) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = hak_run_find(size, align);
  if (run == NULL) return NULL;
  char *const at = (char *)hak_round_up((uintptr_t)run->start, align);
  if (!take_out(run, at, size)) return NULL;
  run = hak_run_cut(run, at, size);
  hak_run_release_dip();
  return run;
}

// The most ranges that are mapped for one request: another thread may take the free run that a new range was meant to
// extend.
#define MAPS_MAX 3

// The same, and maps new addresses if there is no suitable run.
static struct hak_run *reuse_or_map(size_t size, size_t align, bool sparse) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = reuse(size, align);
  for (int maps = 0; run == NULL && maps < MAPS_MAX; maps++) {
    if (!hak_limit_admit(size)) return NULL;
    hak_run_release_before_growth(size);
    struct hak_run *more = hak_run_ground_map(size, align, sparse);
    if (more == NULL || !hak_run_reserve(2)) {
      if (more != NULL) hak_run_make_free(more, 0);
      return NULL;
    }
    hak_run_make_free(more, 0);
    run = reuse(size, align);
  }
  return run;
}

// Before a request fails, it waits about this many milliseconds for runs that other threads have in transit.
#define WAITS_MAX 20

static struct hak_run *take_run(const struct hak_page_request *request) HAK_REQUIRES(hak_mapping_mutex) {
  if (!hak_run_reserve(2)) return NULL;
  if (!request->grow) return reuse(request->size, request->align);
  struct hak_run *run = reuse_or_map(request->size, request->align, request->sparse);
  for (int waits = 0; run == NULL && waits < WAITS_MAX && hak_mapping_wait_for_others(); waits++) {
    if (hak_run_reserve(2)) run = reuse_or_map(request->size, request->align, request->sparse);
  }
  return run;
}

void *hak_page_heap_take(const struct hak_page_request *request) {
  char *block = NULL;
  lock();
  struct hak_run *run = take_run(request);
  if (run != NULL) {
    run->front = request->colours != 0 ? hak_colour_of(run->start, request->colours, turn++) : 0;
    run->stained = run->dirty == run->size;
    run->state = HAK_RUN_LIVE;
    run->dirty = 0;
    tag_block(run, request->tag);
    count_in(run);
    block = run->start + run->front;
  }
  hak_mapping_unlock();
  return block;
}

// ---- Giving -------------------------------------------------------------------------------------

// Releases or keeps a run that was live. All its pages may hold something other than zero.
static void retire(struct hak_run *run) HAK_REQUIRES(hak_mapping_mutex) {
  run->state = HAK_RUN_TRANSIT;
  run->dirty = run->size;
  hak_run_release_or_keep(run);
}

static bool give(void *block) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *run = find(block);
  if (run == NULL) return false;
  count_out(run);
  set_tag(run->start, 0);
  run->front = 0;
  run->grown = false;
  retire(run);
  return true;
}

bool hak_page_heap_give(void *block) {
  lock();
  const bool given = give(block);
  hak_mapping_unlock();
  return given;
}

void *hak_page_heap_give_some(void *const *blocks, uint32_t count) {
  void *wrong = NULL;
  lock();
  for (uint32_t i = 0; i < count && wrong == NULL; i++) {
    if (!give(blocks[i])) wrong = blocks[i];
  }
  hak_mapping_unlock();
  return wrong;
}

struct hak_page_block hak_page_heap_look(const void *block) {
  lock();
  const struct hak_run *run = find(block);
  struct hak_page_block found = {.size = 0, .front = 0};
  if (run != NULL) found = (struct hak_page_block){.size = run->size, .front = run->front};
  hak_mapping_unlock();
  return found;
}

// ---- Resizing -----------------------------------------------------------------------------------

// Releases or keeps the end of the run. After hak_run_reserve(1).
static void shrink(struct hak_run *run, size_t size) HAK_REQUIRES(hak_mapping_mutex) {
  live.bytes -= run->size - size;
  retire(hak_run_split(run, size));
}

// Takes the first `more` bytes of the free run behind a live one. After hak_run_reserve(1).
static bool grow_in_place(struct hak_run *run, size_t more) HAK_REQUIRES(hak_mapping_mutex) {
  struct hak_run *after = hak_run_free_after(run);
  if (after == NULL || after->size < more) return false;
  if (!take_out(after, after->start, more)) return false;
  after = hak_run_cut(after, after->start, more);
  run->stained = run->stained && after->dirty == more;
  hak_run_drop(after);
  run->size += more;
  live.bytes += more;
  hak_page_map_set_run(run->start, run->size, run);
  hak_run_release_dip();
  return true;
}

// A move drops what the target held and leaves a hole in the addresses, so a block is copied instead if the target has
// its memory already. This is the most that is copied.
#define COPY_BYTES_MAX ((size_t)16 * 1024 * 1024)

// Has the kernel move the run's pages to `target`; steps out of the lock. False: nothing changed.
static bool move_pages(struct hak_run *run, struct hak_run *target) HAK_REQUIRES(hak_mapping_mutex) {
  char *const old = run->start;
  const size_t bytes_before = run->size;
  struct hak_run_parts parts;
  if (!hak_run_find_parts(run, &parts)) return false;
  // The records of the old addresses are removed before the call: as soon as the pages have left, another thread may
  // get these addresses.
  const uint32_t tag = get_tag(old);
  set_tag(old, 0);
  hak_run_ground_forget(old, bytes_before);
  run->state = HAK_RUN_LEAVING;
  const bool out = hak_mapping_step_out();
  const size_t moved = hak_run_move_parts(old, &parts, target);
  hak_mapping_step_in(out);
  target->dirty = moved == 0 ? target->size : 0;
  hak_page_map_set_dirty(target->start, target->size, moved != bytes_before);
  if (moved == 0) {
    run->state = HAK_RUN_TRANSIT;
    hak_run_ground_remember(old, bytes_before);
    hak_page_map_set_run(old, bytes_before, run);
    set_tag(old, tag);
    return false;
  }
  hak_run_note_advice(&parts, target, moved);
  run->start = target->start;
  run->size = target->size;
  hak_run_drop(target);
  hak_page_map_set_run(run->start, run->size, run);
  // Has addresses again, before others may get the lock.
  run->state = HAK_RUN_TRANSIT;
  hak_run_ground_left();
  return true;
}

// Copies what the run holds to `target`, which becomes the block; the old pages become free. Steps out of the lock.
static void copy_pages(struct hak_run *run, struct hak_run *target) HAK_REQUIRES(hak_mapping_mutex) {
  char *const old = run->start;
  const size_t bytes_before = run->size;
  const bool out = hak_mapping_step_out();
  hak_bytes_copy(target->start, old, bytes_before);
  hak_mapping_step_in(out);
  set_tag(old, 0);
  run->start = target->start;
  run->size = target->size;
  run->stained = target->dirty == target->size;
  hak_page_map_set_run(run->start, run->size, run);
  target->start = old;
  target->size = bytes_before;
  target->stained = false;
  hak_page_map_set_run(old, bytes_before, target);
  retire(target);
}

// Moves the run to new addresses of `new_size` bytes; steps out of the lock. False: nothing changed.
static HAK_COLD bool move(struct hak_run *run, size_t new_size) HAK_REQUIRES(hak_mapping_mutex) {
  const size_t bytes_before = run->size;
  count_out(run);
  run->state = HAK_RUN_TRANSIT;  // No other thread resizes or frees it meanwhile.
  run->stained = false;          // Pages that leave have no dirty bit.
  // Pages that move are needed once, so their share of the limit is the target's. For a copy there must be room for
  // both.
  bool lent = bytes_before > COPY_BYTES_MAX;
  struct hak_run *target = lent ? NULL : reuse_or_map(new_size, hak_os_page_size(), false);
  if (target == NULL) {
    lent = true;
    hak_commit_sub(bytes_before);
    target = reuse_or_map(new_size, hak_os_page_size(), false);
  }
  bool moved = false;
  if (target != NULL) {
    moved = (lent || target->dirty < bytes_before / 2) && move_pages(run, target);
    if (moved && !lent) hak_commit_sub(bytes_before);
    if (!moved && !lent) {
      copy_pages(run, target);
      moved = true;
    }
    if (!moved) hak_run_make_free(target, hak_os_now_ms());
  }
  if (lent && !moved) hak_commit_add(bytes_before);
  run->state = HAK_RUN_LIVE;
  count_in(run);
  return moved;
}

static bool resize(struct hak_run *run, size_t size, uint8_t tag, bool may_move) HAK_REQUIRES(hak_mapping_mutex) {
  if (size == run->size) return true;
  if (size < run->size) {
    shrink(run, size);
    return true;
  }
  if (!grow_in_place(run, size - run->size)) {
    const size_t page = hak_os_page_size();
    // A tag stands for one size of run.
    const size_t extra = run->grown && tag == 0 ? hak_round_up(size / 8, page) : 0;
    if (!may_move || run->size < MOVE_BYTES || !move(run, size + extra)) return false;
  }
  run->grown = true;
  return true;
}

void *hak_page_heap_resize(void *block, size_t size, uint8_t tag, bool may_move) {
  char *now = NULL;
  lock();
  struct hak_run *run = find(block);
  if (run != NULL && hak_run_reserve(2)) {
    if (resize(run, size, tag, may_move)) {
      tag_block(run, tag);
      now = run->start + run->front;
    }
  }
  hak_mapping_unlock();
  return now;
}

// ---- The heap as a whole ------------------------------------------------------------------------

bool hak_page_heap_tick(uint64_t now) {
  if (!hak_run_release_may_be_due(now)) return false;
  lock();
  const bool worked = hak_run_release_due(now);
  hak_mapping_unlock();
  return worked;
}

size_t hak_page_heap_trim(void) {
  lock();
  const size_t bytes = hak_run_release_all();
  hak_mapping_unlock();
  return bytes;
}

struct hak_page_heap_totals hak_page_heap_totals(void) {
  lock();
  const struct hak_page_heap_totals totals = {.blocks = live.blocks,
                                              .bytes = live.bytes,
                                              .free_bytes = hak_free_runs_bytes(),
                                              .cached_bytes = hak_free_runs_dirty(),
                                              .mapped_bytes = hak_run_ground_mapped()};
  hak_mapping_unlock();
  return totals;
}

uint64_t hak_page_heap_free_memory(void) { return hak_free_runs_dirty(); }

static HAK_COLD void offer(const struct hak_run *run, void *context) {
  if (run->state == HAK_RUN_LIVE) hak_address_offer(context, run->start + run->front);
}

HAK_COLD void hak_page_heap_gather(struct hak_address_batch *batch) {
  lock();
  hak_run_for_each(offer, batch);
  hak_mapping_unlock();
}

struct sizes {
  void (*visit)(size_t usable, void *context);
  void *context;
};

static HAK_COLD void show_size(const struct hak_run *run, void *context) {
  const struct sizes *sizes = context;
  if (run->state == HAK_RUN_LIVE) sizes->visit(usable(run), sizes->context);
}

HAK_COLD void hak_page_heap_sizes(void (*visit)(size_t usable, void *context), void *context) {
  struct sizes sizes = {.visit = visit, .context = context};
  lock();
  hak_run_for_each(show_size, &sizes);
  hak_mapping_unlock();
}

HAK_COLD const char *hak_page_heap_check(bool (*fits)(uint32_t tag, size_t size)) {
  struct sums sums = {.fits = fits};
  lock();
  const char *fault = hak_free_runs_verify();
  hak_run_for_each(add_up, &sums);
  if (fault == NULL && (sums.blocks != live.blocks || sums.bytes != live.bytes)) fault = "blocks of pages miscounted";
  if (fault == NULL && sums.mapped != hak_run_ground_mapped()) fault = "runs do not add up to what is mapped";
  if (fault == NULL && sums.mapped != hak_page_map_entered()) fault = "chunks do not add up to what is mapped";
  if (fault == NULL && sums.misfits) fault = "run of another size than its tag stands for";
  hak_mapping_unlock();
  return fault;
}
