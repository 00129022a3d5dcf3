// SPDX-License-Identifier: Apache-2.0
#include "allocator/tiny/slab_pool.h"

#include <string.h>

#include "allocator/os/lock.h"
#include "allocator/os/os.h"
#include "allocator/policy/config.h"
#include "allocator/policy/release_policy.h"
#include "allocator/tiny/slab_map.h"

#define ALL_SLABS UINT32_MAX
// Lists 0 .. 31 hold superslabs by the number of their free slabs beyond slab 0; FULL_LIST those without any free slab.
#define FULL_LIST 32u
#define LIST_COUNT 33u
// A stride over this would waste too much of slab 0, which is shorter.
#define SLAB0_STRIDE_MAX 4096u
// Superslabs that one call may look at for a span or release for the deadline.
#define SPAN_SEARCH_MAX 32u
#define TICK_SUPERSLABS 1u

static struct hak_lock pool_lock = HAK_LOCK_INIT(HAK_RANK_POOL);

// All under pool_lock. Invariants: every superslab is on the list that list_of names; it is queued exactly when it has
// a free slab that may hold memory or has no slab in use and is not parked; the queue is in order of dirty_since.
static struct {
  struct hak_superslab *lists[LIST_COUNT];
  uint64_t nonempty;  // bit i: lists[i] is not empty
  struct hak_superslab *queue_first;
  struct hak_superslab *queue_last;
  struct hak_superslab *uncovered;  // mapped, untouched, but the slab map had no room for it and the kernel kept it
  uint64_t superslabs;
  uint64_t empty_superslabs;  // with no slab in use
} pool;

// ---- Lists --------------------------------------------------------------------------------------

// The bits of slabs first .. first + count - 1, count being 1 .. 32.
static uint32_t run_of(uint32_t first, uint32_t count) { return (uint32_t)((((uint64_t)1 << count) - 1) << first); }

static uint32_t list_of(const struct hak_superslab *ss) {
  return ss->free_mask == 0 ? FULL_LIST : (uint32_t)__builtin_popcount(ss->free_mask >> 1);
}

static void list_add(struct hak_superslab *ss) {
  const uint32_t list = list_of(ss);
  ss->prev = NULL;
  ss->next = pool.lists[list];
  if (ss->next != NULL) ss->next->prev = ss;
  pool.lists[list] = ss;
  pool.nonempty |= (uint64_t)1 << list;
}

static void list_remove(struct hak_superslab *ss) {
  const uint32_t list = list_of(ss);
  if (ss->next != NULL) ss->next->prev = ss->prev;
  if (ss->prev != NULL) {
    ss->prev->next = ss->next;
  } else {
    pool.lists[list] = ss->next;
    if (ss->next == NULL) pool.nonempty &= ~((uint64_t)1 << list);
  }
}

static void queue_add(struct hak_superslab *ss, uint64_t now) {
  ss->queued = true;
  ss->dirty_since = now;
  ss->purge_next = NULL;
  ss->purge_prev = pool.queue_last;
  if (pool.queue_last != NULL) {
    pool.queue_last->purge_next = ss;
  } else {
    pool.queue_first = ss;
  }
  pool.queue_last = ss;
}

static void queue_remove(struct hak_superslab *ss) {
  ss->queued = false;
  if (ss->purge_prev != NULL) {
    ss->purge_prev->purge_next = ss->purge_next;
  } else {
    pool.queue_first = ss->purge_next;
  }
  if (ss->purge_next != NULL) {
    ss->purge_next->purge_prev = ss->purge_prev;
  } else {
    pool.queue_last = ss->purge_prev;
  }
}

// Changes which slabs of `ss` are free, and keeps lists and counts true.
static void set_free_mask(struct hak_superslab *ss, uint32_t free_mask) {
  if (ss->free_mask == ALL_SLABS) pool.empty_superslabs--;
  list_remove(ss);
  ss->free_mask = free_mask;
  list_add(ss);
  if (free_mask == ALL_SLABS) pool.empty_superslabs++;
}

// ---- Release ------------------------------------------------------------------------------------

// Gives the memory of slabs first .. first + count - 1 back; they then read as zero. *bytes: how much went back. False:
// nothing changed.
static bool decommit_slabs(struct hak_superslab *ss, uint32_t first, uint32_t count, size_t *bytes) {
  char *const begin = hak_slab_begin(&ss->slabs[first]);
  char *const end = hak_slab_end(&ss->slabs[first + count - 1]);
  char *whole = (char *)hak_round_up((uintptr_t)begin, hak_os_page_size());
  if (whole > end) whole = end;
  *bytes = (size_t)(end - whole);
  if (*bytes != 0 && !hak_os_decommit(whole, *bytes)) return false;
  // Slab 0 shares its first page with the head: that part is cleared by hand.
  memset(begin, 0, (size_t)(whole - begin));
  return true;
}

// Gives the memory of all free slabs of `ss` back. Returns the bytes; slabs that the kernel would not take stay dirty.
static size_t decommit_free(struct hak_superslab *ss) {
  size_t bytes = 0;
  uint32_t left = ss->free_mask & ss->dirty_mask;
  while (left != 0) {
    const uint32_t first = (uint32_t)__builtin_ctz(left);
    const uint32_t rest = ~(left >> first);
    const uint32_t count = rest == 0 ? HAK_SLABS_PER_SUPERSLAB - first : (uint32_t)__builtin_ctz(rest);
    const uint32_t run = run_of(first, count);
    left &= ~run;
    size_t run_bytes;
    if (!decommit_slabs(ss, first, count, &run_bytes)) continue;
    ss->dirty_mask &= ~run;
    bytes += run_bytes;
  }
  return bytes;
}

// Unmaps a superslab without a slab in use, which is not queued. False: the limit on mappings; it stays ours.
static bool unmap_superslab(struct hak_superslab *ss) {
  list_remove(ss);
  if (!hak_os_unmap(ss, HAK_SUPERSLAB_SIZE)) {
    list_add(ss);
    return false;
  }
  pool.superslabs--;
  pool.empty_superslabs--;
  return true;
}

// Releases what `verdict` says; returns the bytes that went back. `ss` may be gone afterwards.
static size_t release(struct hak_superslab *ss, enum hak_release_verdict verdict, uint64_t now) {
  queue_remove(ss);
  if (verdict == HAK_RELEASE_UNMAP) {
    const size_t bytes = (size_t)__builtin_popcount(ss->dirty_mask) * HAK_SLAB_SIZE;
    if (unmap_superslab(ss)) return bytes;
  }
  const size_t bytes = decommit_free(ss);
  if ((ss->free_mask & ss->dirty_mask) != 0) queue_add(ss, now);  // Refused: tried again a deadline later.
  return bytes;
}

static struct hak_release_facts facts_of(const struct hak_superslab *ss, uint64_t now, uint64_t deadline) {
  const struct hak_release_facts facts = {
      .now_ms = now,
      .free_since_ms = ss->dirty_since,
      .deadline_ms = deadline,
      .empty_superslabs = pool.empty_superslabs,
      .keep_superslabs = hak_config.keep_superslabs,
      .wholly_free = ss->free_mask == ALL_SLABS,
  };
  return facts;
}

static void release_due(uint64_t now) {
  for (uint32_t i = 0; i < TICK_SUPERSLABS && pool.queue_first != NULL; i++) {
    struct hak_superslab *ss = pool.queue_first;
    const struct hak_release_facts facts = facts_of(ss, now, hak_config.decommit_deadline_ms);
    const enum hak_release_verdict verdict = hak_release_superslab(&facts);
    if (verdict == HAK_RELEASE_KEEP) return;
    release(ss, verdict, now);
  }
}

void hak_pool_tick(void) {
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&pool_lock);
  release_due(now);
  hak_lock_release(&pool_lock);
}

// Unmaps the wholly free superslabs that stayed mapped without memory; all are on the list of the emptiest.
static void unmap_parked(void) {
  struct hak_superslab *next;
  for (struct hak_superslab *ss = pool.lists[FULL_LIST - 1]; ss != NULL; ss = next) {
    next = ss->next;
    if (ss->free_mask == ALL_SLABS && !ss->queued) unmap_superslab(ss);
  }
}

size_t hak_pool_trim(size_t keep_bytes) {
  size_t bytes = 0;
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&pool_lock);
  size_t kept = 0;
  // Once through the queue: what cannot be released comes back behind its present end.
  struct hak_superslab *const last = pool.queue_last;
  struct hak_superslab *next = pool.queue_first;
  for (struct hak_superslab *ss = NULL; ss != last;) {
    ss = next;
    next = ss->purge_next;
    const size_t dirty = (size_t)__builtin_popcount(ss->free_mask & ss->dirty_mask) * HAK_SLAB_SIZE;
    if (keep_bytes != 0 && kept + dirty <= keep_bytes) {
      kept += dirty;
      continue;
    }
    struct hak_release_facts facts = facts_of(ss, now, 0);
    facts.keep_superslabs = 0;
    bytes += release(ss, hak_release_superslab(&facts), now);
  }
  if (keep_bytes == 0) unmap_parked();
  hak_lock_release(&pool_lock);
  return bytes;
}

// ---- Taking and giving --------------------------------------------------------------------------

static struct hak_superslab *map_superslab(void) {
  struct hak_superslab *ss = pool.uncovered;
  pool.uncovered = NULL;
  if (ss == NULL) ss = hak_os_map(HAK_SUPERSLAB_SIZE, HAK_SUPERSLAB_SIZE);
  if (ss == NULL) return NULL;
  if (!hak_slab_map_cover(ss)) {
    if (!hak_os_unmap(ss, HAK_SUPERSLAB_SIZE)) pool.uncovered = ss;
    return NULL;
  }
  // The memory is zero, so the rest of the head says: free slabs, never touched. Their numbers are set on first use.
  ss->free_mask = ALL_SLABS;
  pool.superslabs++;
  pool.empty_superslabs++;
  list_add(ss);
  return ss;
}

// Marks slabs first .. first + count - 1 as in use; returns which of them may hold something else than zero (bit 0:
// first).
static uint32_t claim(struct hak_superslab *ss, uint32_t first, uint32_t count) {
  const uint32_t run = run_of(first, count);
  const uint32_t dirty = ss->dirty_mask & run;
  set_free_mask(ss, ss->free_mask & ~run);
  ss->dirty_mask |= run;
  if (ss->queued && (ss->free_mask & ss->dirty_mask) == 0) queue_remove(ss);
  for (uint32_t i = first; i < first + count; i++) ss->slabs[i].index = (uint8_t)i;
  return dirty >> first;
}

// Marks slabs first .. first + count - 1 as free.
static void disclaim(struct hak_superslab *ss, uint32_t first, uint32_t count) {
  const uint32_t run = run_of(first, count);
  for (uint32_t i = first; i < first + count; i++) ss->slabs[i].class_id = HAK_CLASS_NONE;
  hak_slab_map_set(hak_slab_end(&ss->slabs[first]) - HAK_SLAB_SIZE, count, HAK_CLASS_NONE);
  set_free_mask(ss, ss->free_mask | run);
}

// After slabs became free: they wait for the deadline from now on, unless the superslab waits already.
static void note_free(struct hak_superslab *ss, uint64_t now) {
  const bool idle = (ss->free_mask & ss->dirty_mask) != 0 || ss->free_mask == ALL_SLABS;
  if (idle && !ss->queued) queue_add(ss, now);
  release_due(now);
}

struct hak_slab *hak_pool_take(uint32_t class_id, struct hak_heap *owner) {
  const uint32_t usable = hak_class_stride(class_id) > SLAB0_STRIDE_MAX ? ~1u : ALL_SLABS;
  hak_lock_acquire(&pool_lock);
  uint64_t lists = pool.nonempty & (((uint64_t)1 << FULL_LIST) - 1);
  if ((usable & 1) == 0) lists &= ~(uint64_t)1;
  struct hak_superslab *ss = lists != 0 ? pool.lists[__builtin_ctzll(lists)] : map_superslab();
  struct hak_slab *slab = NULL;
  if (ss != NULL) {
    const uint32_t candidates = ss->free_mask & usable;
    const uint32_t warm = candidates & ss->dirty_mask;  // Memory that is there already comes first.
    const uint32_t index = (uint32_t)__builtin_ctz(warm != 0 ? warm : candidates);
    const bool zeroed = claim(ss, index, 1) == 0;
    if (hak_slab_format(&ss->slabs[index], class_id, zeroed)) {
      slab = &ss->slabs[index];
      // Release: whoever reads the owner through a block of this slab sees the formatted descriptor.
      atomic_store_explicit(&slab->owner, owner, memory_order_release);
      hak_slab_map_set(hak_slab_begin(slab), 1, class_id);
    } else {
      if (zeroed) ss->dirty_mask &= ~(1u << index);
      disclaim(ss, index, 1);
      note_free(ss, hak_os_now_ms());
    }
  }
  hak_lock_release(&pool_lock);
  return slab;
}

void hak_pool_give(struct hak_slab *slab) {
  struct hak_superslab *ss = hak_superslab_of(slab);
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&pool_lock);
  const bool touched = hak_slab_carved(slab) != 0 || !slab->zeroed;
  if (!touched) ss->dirty_mask &= ~(1u << slab->index);
  hak_slab_unformat(slab);
  atomic_store_explicit(&slab->owner, NULL, memory_order_release);
  disclaim(ss, slab->index, 1);
  note_free(ss, now);
  hak_lock_release(&pool_lock);
}

// The first of `count` consecutive bits of `mask`, or HAK_SLABS_PER_SUPERSLAB.
static uint32_t find_run(uint32_t mask, uint32_t count) {
  // After the loop bit i is set where bits i .. i + count - 1 were.
  for (uint32_t have = 1; have < count && mask != 0;) {
    const uint32_t step = have < count - have ? have : count - have;
    mask &= mask >> step;
    have += step;
  }
  return mask == 0 ? HAK_SLABS_PER_SUPERSLAB : (uint32_t)__builtin_ctz(mask);
}

void *hak_pool_take_span(uint32_t slabs, uint32_t *dirty) {
  hak_lock_acquire(&pool_lock);
  struct hak_superslab *found = NULL;
  uint32_t first = HAK_SLABS_PER_SUPERSLAB;
  uint32_t looked_at = 0;
  uint64_t lists = pool.nonempty & (((uint64_t)1 << FULL_LIST) - 1) & ~(((uint64_t)1 << slabs) - 1);
  for (; lists != 0 && found == NULL && looked_at < SPAN_SEARCH_MAX; lists &= lists - 1) {
    for (struct hak_superslab *ss = pool.lists[__builtin_ctzll(lists)]; ss != NULL && looked_at < SPAN_SEARCH_MAX;
         ss = ss->next, looked_at++) {
      // Slab 0 is not whole.
      const uint32_t free_whole = ss->free_mask & ~1u;
      first = find_run(free_whole & ss->dirty_mask, slabs);
      if (first == HAK_SLABS_PER_SUPERSLAB) first = find_run(free_whole, slabs);
      if (first != HAK_SLABS_PER_SUPERSLAB) {
        found = ss;
        break;
      }
    }
  }
  if (found == NULL) {
    found = map_superslab();
    first = 1;
  }
  void *start = NULL;
  if (found != NULL) {
    *dirty = claim(found, first, slabs);
    struct hak_slab *slab = &found->slabs[first];
    for (uint32_t i = 1; i < slabs; i++) slab[i].class_id = HAK_CLASS_SPAN_REST;
    slab->class_id = HAK_CLASS_SPAN;
    slab->span_slabs = slabs;
    start = hak_slab_begin(slab);
    hak_slab_map_set(start, 1, HAK_CLASS_SPAN);
    if (slabs > 1) hak_slab_map_set((char *)start + HAK_SLAB_SIZE, slabs - 1, HAK_CLASS_SPAN_REST);
  }
  hak_lock_release(&pool_lock);
  return start;
}

bool hak_pool_give_span(struct hak_slab *slab) {
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&pool_lock);
  const bool is_span = slab->class_id == HAK_CLASS_SPAN;
  if (is_span) {
    struct hak_superslab *ss = hak_superslab_of(slab);
    disclaim(ss, slab->index, slab->span_slabs);
    note_free(ss, now);
  }
  hak_lock_release(&pool_lock);
  return is_span;
}

bool hak_pool_resize_span(struct hak_slab *slab, uint32_t slabs) {
  struct hak_superslab *ss = hak_superslab_of(slab);
  const uint64_t now = hak_os_now_ms();
  hak_lock_acquire(&pool_lock);
  const uint32_t first = slab->index;
  const uint32_t old = slab->span_slabs;
  bool done = true;
  if (slabs < old) {
    slab->span_slabs = slabs;
    disclaim(ss, first + slabs, old - slabs);
    note_free(ss, now);
  } else if (slabs > old) {
    const uint32_t extra = run_of(first + old, slabs - old);
    done = first + slabs <= HAK_SLABS_PER_SUPERSLAB && (ss->free_mask & extra) == extra;
    if (done) {
      claim(ss, first + old, slabs - old);
      for (uint32_t i = old; i < slabs; i++) slab[i].class_id = HAK_CLASS_SPAN_REST;
      hak_slab_map_set(hak_slab_begin(&slab[old]), slabs - old, HAK_CLASS_SPAN_REST);
      slab->span_slabs = slabs;
    }
  }
  hak_lock_release(&pool_lock);
  return done;
}

// ---- Looking inside -----------------------------------------------------------------------------

static bool visit_all(bool (*visit)(struct hak_slab *slab, void *context), void *context) {
  for (uint32_t list = 0; list < LIST_COUNT; list++) {
    for (struct hak_superslab *ss = pool.lists[list]; ss != NULL; ss = ss->next) {
      for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) {
        if (!visit(&ss->slabs[i], context)) return false;
      }
    }
  }
  return true;
}

bool hak_pool_visit(bool (*visit)(struct hak_slab *slab, void *context), void *context) {
  hak_lock_acquire(&pool_lock);
  const bool all = visit_all(visit, context);
  hak_lock_release(&pool_lock);
  return all;
}

static bool add_to_totals(struct hak_slab *slab, void *context) {
  struct hak_pool_totals *totals = context;
  switch (slab->class_id) {
    case HAK_CLASS_NONE: {
      const struct hak_superslab *ss = hak_superslab_of(slab);
      const size_t index = (size_t)(slab - ss->slabs);
      totals->slabs_free++;
      totals->slabs_free_dirty += (ss->dirty_mask >> index) & 1;
      break;
    }
    case HAK_CLASS_SPAN:
      totals->spans++;
      totals->span_bytes += slab->span_slabs * HAK_SLAB_SIZE;
      break;
    case HAK_CLASS_SPAN_REST:
      break;
    default: {
      const uint64_t held = hak_slab_carved(slab) - hak_slab_free_count(slab);
      const uint64_t remote = atomic_load_explicit(&slab->remote, memory_order_relaxed) >> 32;
      const size_t usable = hak_class_usable(slab->class_id);
      totals->slabs_used++;
      totals->tiny_blocks += held;
      totals->tiny_bytes += held * usable;
      totals->remote_blocks += remote;
      totals->remote_bytes += remote * usable;
    }
  }
  return true;
}

struct hak_pool_totals hak_pool_totals(void) {
  struct hak_pool_totals totals = {.superslabs = 0};
  hak_lock_acquire(&pool_lock);
  totals.superslabs = pool.superslabs;
  visit_all(add_to_totals, &totals);
  hak_lock_release(&pool_lock);
  return totals;
}

static const char *verify_superslab(const struct hak_superslab *ss, uint32_t list) {
  if (list != list_of(ss)) return "superslab on the wrong list";
  if (((uintptr_t)ss & (HAK_SUPERSLAB_SIZE - 1)) != 0) return "superslab not aligned";
  if (!ss->queued && (ss->free_mask & ss->dirty_mask) != 0) return "free memory that no deadline watches";
  uint32_t rest = 0;  // slabs that still belong to the span before
  for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) {
    const struct hak_slab *slab = &ss->slabs[i];
    const bool is_free = ((ss->free_mask >> i) & 1) != 0;
    if (is_free != (slab->class_id == HAK_CLASS_NONE)) return "free mask and slab disagree";
    if ((slab->class_id == HAK_CLASS_SPAN_REST) != (rest != 0)) return "span of the wrong length";
    rest = rest != 0 ? rest - 1 : slab->class_id == HAK_CLASS_SPAN ? slab->span_slabs - 1 : 0;
    const char *inside = (const char *)ss + i * HAK_SLAB_SIZE + HAK_SUPERSLAB_HEAD;
    if (hak_slab_map_find(inside) != slab->class_id) return "slab map and slab disagree";
    if (!is_free && slab->index != i) return "slab with a wrong number";
  }
  return rest == 0 ? NULL : "span beyond its superslab";
}

const char *hak_pool_verify(void) {
  const char *fault = NULL;
  uint64_t superslabs = 0;
  uint64_t empty = 0;
  hak_lock_acquire(&pool_lock);
  for (uint32_t list = 0; list < LIST_COUNT && fault == NULL; list++) {
    if ((pool.lists[list] != NULL) != (((pool.nonempty >> list) & 1) != 0)) fault = "list index of superslabs is wrong";
    for (const struct hak_superslab *ss = pool.lists[list]; ss != NULL && fault == NULL; ss = ss->next) {
      superslabs++;
      empty += ss->free_mask == ALL_SLABS;
      fault = verify_superslab(ss, list);
    }
  }
  if (fault == NULL && (superslabs != pool.superslabs || empty != pool.empty_superslabs)) {
    fault = "superslabs are miscounted";
  }
  hak_lock_release(&pool_lock);
  return fault;
}

void hak_pool_lock(void) { hak_lock_acquire(&pool_lock); }
void hak_pool_unlock(void) { hak_lock_release(&pool_lock); }
