// SPDX-License-Identifier: Apache-2.0
//
// Guarded blocks: mapping, canaries, and the table of live blocks.
#include "allocator/large/guarded.h"

#include "allocator/block/block_tail.h"
#include "allocator/large/guarded_held.h"
#include "allocator/meta/address_table.h"
#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"

// The most live blocks at the end of their pages: each takes three of the mappings that the kernel allows a process.
#define AT_END_MAX 1000u

// All under the lock of mapping_lock.h.
static struct {
  struct hak_address_table live;
  uint64_t bytes;        // of live blocks, as requested
  uint64_t guard_bytes;  // of their closed pages
  uint64_t at_end;       // live blocks at the end of their pages, including those about to be live
  uint64_t sampled;      // blocks so far that were placed at the end of their pages
} table;

static struct hak_guarded *guarded_of(struct hak_address_entry *entry) { return (struct hak_guarded *)(void *)entry; }
static char *block_of(const struct hak_guarded *one) { return (char *)(uintptr_t)one->live.address; }

// ---- Canaries -----------------------------------------------------------------------------------

static void seal(const struct hak_guarded *one) {
  char *const block = block_of(one);
  char *const end = block + one->size;
  hak_tail_fill_front(block, one->data, (size_t)(block - one->data));
  hak_tail_fill(block, end, (size_t)(one->data + one->data_bytes - end));
}

static void require_intact(const struct hak_guarded *one) {
  const char *const block = block_of(one);
  const char *const end = block + one->size;
  if (HAK_UNLIKELY(!hak_tail_front_is_intact(block, one->data, (size_t)(block - one->data))))
    hak_fatal_block("underflow", block, one->size);
  if (HAK_UNLIKELY(!hak_tail_is_intact(block, end, (size_t)(one->data + one->data_bytes - end)))) {
    hak_fatal_block("overflow", block, one->size);
  }
}

// ---- Interface ----------------------------------------------------------------------------------

// The state of the range's pages. The functions that return it run without the lock.
enum pages {
  PAGES_OPEN,     // accessible, and zero
  PAGES_CLOSED,   // inaccessible; the range is mapped
  PAGES_MISSING,  // nothing is mapped
};

static enum pages missing_or_closed(const struct hak_guarded *one) {
  return hak_os_unmap(one->start, one->mapped) ? PAGES_MISSING : PAGES_CLOSED;
}

// Maps the range as a whole and guards it in the page table, so that many such ranges lie in one mapping of the kernel.
static enum pages map_lightly(struct hak_guarded *one, size_t page) {
  one->start = hak_os_map(one->mapped, page);
  if (one->start == NULL) return PAGES_MISSING;
  one->data = one->start + page;
  one->light = true;
  if (!hak_os_guard(one->start, one->mapped)) return missing_or_closed(one);
  return hak_os_unguard(one->data, one->data_bytes) ? PAGES_OPEN : missing_or_closed(one);
}

static enum pages map_pages(struct hak_guarded *one, size_t align) {
  const size_t page = hak_os_page_size();
  if (align <= page && hak_held_is_moderate(one->data_bytes) && hak_os_guards_work()) {
    const enum pages pages = map_lightly(one, page);
    if (pages != PAGES_MISSING) return pages;
    one->light = false;
  }
  one->start = hak_os_map_closed(one->mapped);
  if (one->start == NULL) return PAGES_MISSING;
  one->data = (char *)hak_round_up((uintptr_t)one->start + page, align > page ? align : page);
  return hak_os_commit(one->data, one->data_bytes) ? PAGES_OPEN : missing_or_closed(one);
}

static enum pages open_again(struct hak_guarded *one) {
  if (one->light) {
    if (hak_os_unguard(one->data, one->data_bytes)) return PAGES_OPEN;
    // Without guards it is unknown which pages can be touched, and what they hold: the whole range is mapped anew.
    if (hak_os_guards_work() || !hak_os_close(one->start, one->mapped)) return PAGES_CLOSED;
    one->light = false;
  }
  return hak_os_commit(one->data, one->data_bytes) ? PAGES_OPEN : PAGES_CLOSED;
}

static void enter(struct hak_guarded *one) {
  one->entered = true;
  hak_address_insert(&table.live, &one->live);
  table.bytes += one->size;
  table.guard_bytes += one->mapped - one->data_bytes;
  table.sampled += one->at_end;
}

static struct hak_guarded *leave(struct hak_address_entry **link) {
  struct hak_guarded *one = guarded_of(hak_address_extract(&table.live, link));
  one->entered = false;
  table.bytes -= one->size;
  table.guard_bytes -= one->mapped - one->data_bytes;
  table.at_end -= one->at_end;
  return one;
}

// The losses of the lock's holders for which the table was made anew.
static uint32_t losses HAK_GUARDED_BY(hak_mapping_mutex);

static void enter_again(struct hak_guarded *one) {
  if (!one->entered || !hak_address_reserve(&table.live)) return;
  enter(one);
  table.at_end += one->at_end;
}

static HAK_COLD void start_anew(void) HAK_REQUIRES(hak_mapping_mutex) {
  losses = hak_mapping_losses();
  hak_bytes_fill(&table, 0, sizeof table);
  hak_held_start_anew();
  hak_guarded_for_each(enter_again);
}

static void lock(void) HAK_ACQUIRE(hak_mapping_mutex) {
  hak_mapping_lock();
  if (HAK_UNLIKELY(losses != hak_mapping_losses())) start_anew();
}

// A record for a range with `data_bytes` bytes of pages, with its sizes set. *again: the range was used before. NULL:
// out of memory, or, with *no_mappings, there are no mappings left for guards.
static struct hak_guarded *new_range(size_t data_bytes, size_t align, bool *again, bool *no_mappings)
    HAK_REQUIRES(hak_mapping_mutex) {
  const size_t page = hak_os_page_size();
  struct hak_guarded *one = align <= page ? hak_held_reuse(data_bytes) : NULL;
  *again = one != NULL;
  if (one != NULL) return one;
  *no_mappings = !hak_guard_budget_take(HAK_GUARD_BLOCK, 0);
  if (*no_mappings) return NULL;
  one = hak_guarded_record();
  if (one == NULL) {
    hak_guard_budget_give(HAK_GUARD_BLOCK);
    return NULL;
  }
  *one = (struct hak_guarded){.data_bytes = data_bytes, .mapped = data_bytes + page + (align > page ? align : page)};
  return one;
}

// Opens the range and makes it a block; steps out of the lock. False: out of memory, and the record is no longer the
// caller's.
static bool make_block(struct hak_guarded *one, size_t size, size_t align, bool at_end, bool again)
    HAK_REQUIRES(hak_mapping_mutex) {
  // Counted before the pages are opened, so that many threads at once do not exceed the limit.
  hak_commit_add(one->data_bytes);
  table.at_end += at_end;
  const bool out = hak_mapping_step_out();
  const enum pages pages = again ? open_again(one) : map_pages(one, align);
  if (pages == PAGES_OPEN) {
    one->size = size;
    one->at_end = at_end;
    one->pointers = false;
    one->kind = HAK_KIND_MALLOC;
    one->live.address = one->data + (at_end ? one->data_bytes - hak_round_up(size, align) : 0);
    seal(one);
  }
  hak_mapping_step_in(out);
  if (pages == PAGES_OPEN) {
    enter(one);
    return true;
  }
  table.at_end -= at_end;
  hak_commit_sub(one->data_bytes);
  if (pages == PAGES_CLOSED) {
    hak_held_keep(one);
  } else {
    hak_guard_budget_give(HAK_GUARD_BLOCK);
    hak_guarded_drop_record(one);
  }
  return false;
}

void *hak_guarded_take(size_t size, size_t align, bool at_end, bool *without) {
  if (size > PTRDIFF_MAX / 2 || align > PTRDIFF_MAX / 4) return NULL;
  const size_t data_bytes = hak_round_up(size == 0 ? 1 : size, hak_os_page_size());
  char *block = NULL;
  bool no_mappings = false;
  lock();
  if ((!at_end || table.at_end < AT_END_MAX) && hak_limit_admit(data_bytes) && hak_address_reserve(&table.live)) {
    bool again;
    struct hak_guarded *one = new_range(data_bytes, align, &again, &no_mappings);
    if (one != NULL && make_block(one, size, align, at_end, again)) {
      block = block_of(one);
    } else if (one != NULL) {
      no_mappings = true;
    }
  }
  hak_mapping_unlock();
  if (without != NULL) *without = no_mappings;
  return block;
}

bool hak_guarded_enter(void *memory, size_t size) {
  lock();
  struct hak_guarded *one = hak_address_reserve(&table.live) ? hak_guarded_record() : NULL;
  if (one != NULL) {
    *one = (struct hak_guarded){
        .live = {.address = memory}, .start = memory, .data = memory, .size = size, .without = true};
    one->mapped = one->data_bytes = hak_round_up(size == 0 ? 1 : size, hak_os_page_size());
    enter(one);
    seal(one);
  }
  hak_mapping_unlock();
  return one != NULL;
}

enum hak_guarded_kind hak_guarded_give(void *block) {
  enum hak_guarded_kind kind = HAK_GUARDED_NONE;
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    require_intact(guarded_of(*link));
    struct hak_guarded *one = leave(link);
    kind = one->without ? HAK_GUARDED_WITHOUT : HAK_GUARDED_BLOCK;
    if (one->without) {
      hak_guarded_drop_record(one);
    } else {
      hak_held_close(one);
    }
  } else if (HAK_UNLIKELY(hak_held_find(block))) {
    hak_fatal_block("double free", block, hak_held_around(block)->size);
  }
  hak_mapping_unlock();
  return kind;
}

bool hak_guarded_is_live(const void *block) {
  lock();
  const bool live = hak_address_find(&table.live, block) != NULL;
  hak_mapping_unlock();
  return live;
}

#if HAK_HARDENED
void hak_guarded_set_pointers(void *block) {
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) guarded_of(*link)->pointers = true;
  hak_mapping_unlock();
}

bool hak_guarded_has_pointers(const void *block) {
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  const bool has = link != NULL && guarded_of(*link)->pointers;
  hak_mapping_unlock();
  return has;
}
#endif

size_t hak_guarded_held_size(const void *block) {
  lock();
  const size_t size = hak_held_find(block) ? hak_held_around(block)->size : SIZE_MAX;
  hak_mapping_unlock();
  return size;
}

// The live block in whose guards the address lies.
static const struct hak_guarded *live_around(const void *address) HAK_REQUIRES(hak_mapping_mutex) {
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count; i++) {
    for (struct hak_address_entry *entry = table.live.buckets[i]; entry != NULL; entry = entry->next) {
      const struct hak_guarded *one = guarded_of(entry);
      if (one->without || !hak_guarded_contains(one, address)) continue;
      // Its pages are accessible, unless the program has changed that itself.
      return (uintptr_t)address - (uintptr_t)one->data < one->data_bytes ? NULL : one;
    }
  }
  return NULL;
}

HAK_COLD enum hak_guarded_look hak_guarded_look_beside(const void *address, struct hak_guarded_beside *beside) {
  if (!hak_mapping_try_lock()) return HAK_GUARDED_BUSY;
  const struct hak_guarded *found = NULL;
  // After a loss the lists may be half changed.
  if (losses == hak_mapping_losses()) {
    found = live_around(address);
    beside->freed = found == NULL;
    if (found == NULL) found = hak_held_around(address);
  }
  if (found != NULL) {
    beside->block = block_of(found);
    beside->size = found->size;
  }
  hak_mapping_unlock();
  return found != NULL ? HAK_GUARDED_BESIDE : HAK_GUARDED_FOREIGN;
}

size_t hak_guarded_size_and_kind(const void *block, enum hak_kind *kind) {
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) require_intact(guarded_of(*link));
  const size_t size = link != NULL ? guarded_of(*link)->size : SIZE_MAX;
  *kind = link != NULL ? guarded_of(*link)->kind : HAK_KIND_MALLOC;
  hak_mapping_unlock();
  return size;
}

size_t hak_guarded_size(const void *block) {
  enum hak_kind kind;
  return hak_guarded_size_and_kind(block, &kind);
}

void hak_guarded_set_kind(const void *block, enum hak_kind kind) {
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) guarded_of(*link)->kind = kind;
  hak_mapping_unlock();
}

bool hak_guarded_resize(void *block, size_t size, bool keep_pages) {
  bool done = false;
  lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    struct hak_guarded *one = guarded_of(*link);
    require_intact(one);
    // A block at the end of its pages can only shrink in place.
    const size_t most = one->at_end ? one->size : one->data_bytes;
    const bool same_pages = !one->at_end && size != 0 && hak_round_up(size, hak_os_page_size()) == one->data_bytes;
    if (size <= most && (same_pages || keep_pages)) {
      table.bytes += size - one->size;
      one->size = size;
      seal(one);
      done = true;
    }
  }
  hak_mapping_unlock();
  return done;
}

void hak_guarded_gather(struct hak_address_batch *batch) {
  lock();
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count; i++) {
    for (struct hak_address_entry *entry = table.live.buckets[i]; entry != NULL; entry = entry->next) {
      hak_address_offer(batch, block_of(guarded_of(entry)));
    }
  }
  hak_mapping_unlock();
}

HAK_COLD void hak_guarded_sizes(void (*visit)(size_t size, void *context), void *context) {
  lock();
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count; i++) {
    for (struct hak_address_entry *entry = table.live.buckets[i]; entry != NULL; entry = entry->next) {
      visit(guarded_of(entry)->size, context);
    }
  }
  hak_mapping_unlock();
}

struct hak_guarded_totals hak_guarded_totals(void) {
  lock();
  const struct hak_held_totals held = hak_held_totals();
  const struct hak_guarded_totals totals = {.blocks = table.live.count,
                                            .bytes = table.bytes,
                                            .closed = table.guard_bytes + held.bytes - held.open,
                                            .held = held.blocks,
                                            .sampled = table.sampled};
  hak_mapping_unlock();
  return totals;
}

const char *hak_guarded_verify(void) {
  const char *fault = NULL;
  uint64_t bytes = 0;
  lock();
  if (!hak_address_holds(&table.live)) fault = "guarded block in the wrong bucket";
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count; i++) {
    for (struct hak_address_entry *entry = table.live.buckets[i]; entry != NULL; entry = entry->next) {
      require_intact(guarded_of(entry));
      bytes += guarded_of(entry)->size;
    }
  }
  if (fault == NULL && bytes != table.bytes) fault = "guarded blocks miscounted";
  if (fault == NULL) fault = hak_held_verify();
  hak_mapping_unlock();
  return fault;
}
