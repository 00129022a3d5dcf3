// SPDX-License-Identifier: Apache-2.0
//
// Maps new address ranges for the page heap, and decides whether they are in huge pages.
#include "allocator/pages/run_ground.h"

#include "allocator/os/atomic.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/pages/free_runs.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/page_map.h"
#include "allocator/policy/config.h"
#include "allocator/policy/huge_pages.h"
#include "allocator/policy/memory_limit.h"

// New ranges grow with the mapped bytes, so that their number stays small: by this part of them, up to a maximum.
#define GROWTH_PART 32u
#define GROWTH_MAX ((size_t)16 * 1024 * 1024)
// About how far below the kernel's own choice for the first range the heap begins. From there it can grow upwards for
// long, and the free run at its end merges with the next range.
#define BELOW ((uintptr_t)256 * 1024 * 1024 * 1024)
#define BELOW_VARIES ((uintptr_t)64 * 1024 * 1024 * 1024)
// If the bytes in use and the request together are smaller than this, the page heap stays on small pages, because a
// huge page may be much more than such a program touches. This does not apply to a block of half a huge page or more.
#define HUGE_FROM ((uint64_t)2 * 1024 * 1024)
#define HUGE_BLOCK (HAK_CHUNK_SIZE / 2)

static uint64_t mapped HAK_GUARDED_BY(hak_mapping_mutex);
// Where the next range is requested; NULL: not known yet.
static char *next_start HAK_GUARDED_BY(hak_mapping_mutex);
// The first value of next_start.
static char *first_start HAK_GUARDED_BY(hak_mapping_mutex);
// Addresses have been unmapped since next_start was set, so it may be lower.
static bool may_turn_back HAK_GUARDED_BY(hak_mapping_mutex);

uint64_t hak_run_ground_mapped(void) { return mapped; }

static bool wants_huge(size_t size) HAK_REQUIRES(hak_mapping_mutex) {
  const uint64_t in_use = mapped - hak_free_runs_bytes() + size;
  struct hak_huge_facts facts = hak_huge_facts_now(in_use >= HUGE_FROM || size >= HUGE_BLOCK);
  facts.committed = HAK_HUGE_FROM;  // The page heap has its own bound.
  return hak_should_use_huge(&facts) && hak_limit_has_room(HAK_CHUNK_SIZE);
}

// Records a new range: its pages are clean and in no run yet, and its whole chunks are huge pages or not.
static void begin_range(char *start, size_t size, bool huge) HAK_REQUIRES(hak_mapping_mutex) {
  hak_page_map_enter(start, size);
  const struct hak_range whole = hak_whole_chunks(start, size);
  for (char *at = hak_chunk_start(start); at < start + size; at += HAK_CHUNK_SIZE) {
    struct hak_chunk *chunk = hak_chunk_of(at);
    const bool is_whole = at >= whole.start && at < whole.start + whole.size;
    chunk->huge = is_whole && huge;
    chunk->small = is_whole && !huge;
  }
  mapped += size;
}

// Advises the kernel before the first touch: later advice neither makes a huge page nor splits one.
static bool advise(char *start, size_t size, bool huge) {
  const struct hak_range whole = hak_whole_chunks(start, size);
  if (whole.size == 0) return false;
  if (huge) return hak_os_advise_huge(whole.start, whole.size, true);
  const enum hak_huge_pages wanted = HAK_SETTING(huge_pages);
  if (wanted != HAK_HUGE_PAGES_AUTO || hak_os_huge_by_default()) hak_os_advise_huge(whole.start, whole.size, false);
  return false;
}

static size_t growth(void) HAK_REQUIRES(hak_mapping_mutex) {
  const size_t part = hak_round_up((size_t)(mapped / GROWTH_PART), HAK_CHUNK_SIZE);
  return part < GROWTH_MAX ? part : GROWTH_MAX;
}

// Where the heap begins to grow, given an address that the kernel chose.
static char *choose_start(const char *kernels) {
  const uintptr_t below = BELOW + hak_os_random() % BELOW_VARIES;
  // Where user space is small, in the middle of what lies below.
  const uintptr_t at = (uintptr_t)kernels > 2 * below ? (uintptr_t)kernels - below : (uintptr_t)kernels / 2;
  return hak_chunk_start((const char *)at);
}

// The free bytes directly below the address where the heap grows.
static size_t free_in_front(const char *at) HAK_REQUIRES(hak_mapping_mutex) {
  const struct hak_run *run = at != NULL ? hak_run_free_before(at) : NULL;
  return run != NULL ? run->size : 0;
}

static void find_end(const struct hak_run *run, void *context) HAK_REQUIRES(hak_mapping_mutex) {
  char **const end = context;
  if (run->start >= first_start && hak_run_end(run) <= next_start && hak_run_end(run) > *end) *end = hak_run_end(run);
}

// Where the heap grows: behind its highest run. Addresses can be unmapped below it, by moves, or by a trim in any
// order. Without this they would never be used again, and each GiB of them would keep its leaf of the page map.
static char *where_it_grows(void) HAK_REQUIRES(hak_mapping_mutex) {
  if (next_start == NULL && hak_run_records() != NULL) first_start = next_start = choose_start(hak_run_records());
  if (may_turn_back && next_start != NULL) {
    char *end = first_start;
    hak_run_for_each(find_end, &end);
    next_start = end;
  }
  may_turn_back = false;
  return next_start;
}

// How far ahead the heap tries next time if another mapping lies where it grows.
#define AROUND ((uintptr_t)1 << HAK_LEAF_SHIFT)

// Maps a range where the heap grows: `more` bytes are enough there. Otherwise maps `size` bytes anywhere. *next: where
// the next range is requested; *bytes: the size of the range. NULL: the kernel refused.
static char *map_range(char **next, size_t more, size_t size, size_t *bytes) {
  *bytes = more;
  char *at = *next;
  if (at != NULL && hak_os_map_at(at, more)) {
    *next = at + more;
    return at;
  }
  *bytes = size;
  char *start = hak_os_map(size, HAK_CHUNK_SIZE);
  // Another mapping is in the way, perhaps permanently. Behind the kernel's own mappings there is no room to grow.
  if (start != NULL) {
    *next = at != NULL && at < start ? (char *)hak_round_up((uintptr_t)at + AROUND, HAK_CHUNK_SIZE) : NULL;
  }
  return start;
}

static size_t with_growth(size_t size) HAK_REQUIRES(hak_mapping_mutex) {
  const size_t whole = hak_round_up(size, HAK_CHUNK_SIZE);
  return whole > growth() ? whole : growth();
}

// The largest range whose records are made before it is mapped.
#define RECORDS_FIRST ((size_t)1 << HAK_LEAF_SHIFT)

// A range without records that the kernel refused to unmap; size 0: there is none.
static struct hak_range useless HAK_GUARDED_BY(hak_mapping_mutex);

void hak_run_ground_tidy(void) {
  if (useless.size != 0 && hak_os_unmap(useless.start, useless.size)) useless.size = 0;
  while (hak_page_map_return_idle(0)) hak_mapping_pass();
}

struct hak_run *hak_run_ground_map(size_t size, size_t align, bool sparse) {
  // This much room contains a multiple of the alignment wherever the range lies.
  const size_t need = align > hak_os_page_size() ? size + align : size;
  char *const grows_at = where_it_grows();
  const size_t in_front = free_in_front(grows_at);
  size_t bytes;
  char *next = grows_at;
  const size_t more = with_growth(need > in_front ? need - in_front : 0);
  const size_t whole = with_growth(need);
  bool huge = !sparse && wants_huge(size);
  // As far as it is known where the range will be, its records are made first. Not those of a huge one, which the
  // kernel may refuse: leaves stay for good.
  const bool is_known = next != NULL && more <= RECORDS_FIRST;
  if (!hak_run_reserve(3) || (is_known && !hak_page_map_cover(next, more))) return NULL;
  const bool out = hak_mapping_step_out();
  char *start = map_range(&next, more, whole, &bytes);
  // If addresses are short, map no more than necessary.
  if (start == NULL) {
    bytes = size;
    start = hak_os_map(size, align);
  }
  if (start != NULL) huge = advise(start, bytes, huge);
  hak_mapping_step_in(out);
  if (start == NULL) return NULL;
  // If another thread mapped a range there meanwhile, this thread learned nothing new about where the heap grows.
  if (next == start + bytes || (next != grows_at && next_start == grows_at)) next_start = next;
  if (!hak_run_reserve(3) || !hak_page_map_cover(start, bytes)) {
    if (!hak_os_unmap(start, bytes) && useless.size == 0) useless = (struct hak_range){.start = start, .size = bytes};
    may_turn_back = true;
    return NULL;
  }
  begin_range(start, bytes, huge);
  return hak_run_new(start, bytes, 0);
}

void hak_run_ground_remember(char *start, size_t size) {
  hak_page_map_enter(start, size);
  mapped += size;
}

void hak_run_ground_forget(char *start, size_t size) {
  hak_page_map_set_dirty(start, size, false);
  hak_page_map_leave(start, size);
  // A chunk of which only a part stays no longer counts as huge or small.
  hak_chunk_of(start)->huge = false;
  hak_chunk_of(start + size - 1)->huge = false;
  hak_chunk_of(start)->small = false;
  hak_chunk_of(start + size - 1)->small = false;
  mapped -= size;
}

// How many chunks in which the page heap has nothing may keep the memory of their records, about 5 KiB each. Fewer are
// not worth a system call: the next range often lies there.
#define IDLE_CHUNKS 32u

void hak_run_ground_left(void) {
  may_turn_back = true;
  if (!hak_page_map_return_idle(IDLE_CHUNKS)) return;
  while (hak_page_map_return_idle(0)) hak_mapping_pass();
}

HAK_COLD void hak_run_ground_start_anew(uint64_t bytes) {
  mapped = bytes;
  useless.size = 0;
}

// ---- Splitting chunks ----------------------------------------------------------------------------

// Records that the chunk with this page is in small pages. Returns the chunk; NULL: it was in small pages already.
static char *split(char *page) {
  struct hak_chunk *chunk = hak_chunk_of(page);
  if (!chunk->huge) return NULL;
  chunk->huge = false;
  chunk->small = true;
  return hak_chunk_start(page);
}

void hak_run_ground_split(const struct hak_run *run, struct hak_ground_edges *edges) {
  char *const end = hak_run_end(run);
  const struct hak_range whole = hak_whole_chunks(run->start, run->size);
  edges->pages[0] = run->start;
  edges->pages[1] = end - hak_os_page_size();
  edges->chunks[0] = whole.size != 0 && whole.start == run->start ? NULL : split(edges->pages[0]);
  edges->chunks[1] = whole.size != 0 && whole.start + whole.size == end ? NULL : split(edges->pages[1]);
}

void hak_run_ground_advise_edges(const struct hak_ground_edges *edges) {
  for (int i = 0; i < 2; i++) {
    if (edges->chunks[i] == NULL) continue;
    hak_os_advise_huge(edges->chunks[i], HAK_CHUNK_SIZE, false);
    hak_os_split_huge(edges->pages[i]);
  }
}

// Whether the kernel was seen to really return memory. Relaxed: a thread that reads an old value checks once more.
static HAK_ATOMIC(bool) advice_works;

bool hak_run_ground_decommit(char *start, size_t size) {
  if (size < HAK_CHUNK_SIZE) return hak_os_decommit_to_zero(start, size);
  // Whole huge pages are returned without a check. To read one word before the next write would keep the kernel from
  // making a huge page there; so would returning one page separately.
  if (!atomic_load_explicit(&advice_works, memory_order_relaxed)) {
    if (!hak_os_decommit_to_zero(start, hak_os_page_size())) return false;
    atomic_store_explicit(&advice_works, true, memory_order_relaxed);
  }
  return hak_os_decommit(start, size, HAK_DECOMMIT_DONTNEED);
}

bool hak_run_ground_may_renew(void) { return wants_huge(0); }

void hak_run_ground_renew(char *start, size_t size) {
  const struct hak_range whole = hak_whole_chunks(start, size);
  for (char *at = whole.start; at < whole.start + whole.size; at += HAK_CHUNK_SIZE) {
    // Relaxed: the run is in transit, so nobody changes it.
    if (hak_chunk_of(at)->small) hak_os_advise_huge(at, HAK_CHUNK_SIZE, true);
  }
}

void hak_run_ground_note_renewed(char *start, size_t size) {
  const struct hak_range whole = hak_whole_chunks(start, size);
  for (char *at = whole.start; at < whole.start + whole.size; at += HAK_CHUNK_SIZE) {
    struct hak_chunk *chunk = hak_chunk_of(at);
    chunk->huge = chunk->huge || chunk->small;
    chunk->small = false;
  }
}
