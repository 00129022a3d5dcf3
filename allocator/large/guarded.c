// SPDX-License-Identifier: Apache-2.0
#include "allocator/large/guarded.h"

#include "allocator/check/block_tail.h"
#include "allocator/large/address_table.h"
#include "allocator/large/mapping_lock.h"
#include "allocator/os/os.h"
#include "allocator/os/report.h"
#include "allocator/policy/guard_budget.h"
#include "allocator/policy/memory_limit.h"
#include "allocator/tiny/meta.h"

// Bounds of the quarantine: blocks, and bytes of addresses.
#define HELD_MAX 128u
// Live blocks at the end of their pages: each takes three of the mappings that the kernel allows a process.
#define AT_END_MAX 1000u
#define HELD_BYTES_MAX ((uint64_t)1 << 32)

// The mapping: closed pages, `data` bytes of open ones, closed pages. The block lies in the open ones. Of a block
// without guards: `data` bytes of somebody else's pages.
struct guarded {
  struct hak_address_entry live;  // by the block's address
  struct guarded *next;           // in quarantine: the one that came after
  char *start;
  size_t mapped;
  char *data;
  size_t data_bytes;  // a multiple of the page size
  size_t size;        // as asked for
  bool at_end;        // placed at the end of its pages
  bool closed;        // in quarantine: the open pages were closed, too
  bool without;       // without guards
};
static_assert(offsetof(struct guarded, live) == 0, "a record is found by its entry");

// All under the lock of mapping_lock.h.
static struct {
  struct hak_address_table live;
  uint64_t bytes;         // of live blocks, as asked for
  uint64_t guard_bytes;   // of their closed pages
  struct guarded *first;  // of the quarantine, the oldest first
  struct guarded *last;
  uint64_t held;
  uint64_t held_bytes;  // mapped
  uint64_t held_open;   // of these, bytes that could not be closed
  uint64_t at_end;      // of live blocks
  uint64_t sampled;     // blocks so far that were placed at the end of their pages
  struct guarded *spare;
} table;

static struct guarded *guarded_of(struct hak_address_entry *entry) { return (struct guarded *)(void *)entry; }
static char *block_of(const struct guarded *one) { return (char *)(uintptr_t)one->live.address; }

static struct guarded *new_record(void) {
  struct guarded *one = table.spare;
  if (one == NULL) return hak_meta_alloc(sizeof *one);
  table.spare = one->next;
  return one;
}

static void drop_record(struct guarded *one) {
  one->next = table.spare;
  table.spare = one;
}

// ---- Canaries -----------------------------------------------------------------------------------

static void seal(const struct guarded *one) {
  char *const block = block_of(one);
  char *const end = block + one->size;
  hak_tail_fill_front(block, one->data, (size_t)(block - one->data));
  hak_tail_fill(block, end, (size_t)(one->data + one->data_bytes - end));
}

static void require_intact(const struct guarded *one) {
  const char *const block = block_of(one);
  const char *const end = block + one->size;
  if (HAK_UNLIKELY(!hak_tail_front_intact(block, one->data, (size_t)(block - one->data))))
    hak_fatal("underflow", block);
  if (HAK_UNLIKELY(!hak_tail_intact(block, end, (size_t)(one->data + one->data_bytes - end)))) {
    hak_fatal("overflow", block);
  }
}

// ---- Quarantine ---------------------------------------------------------------------------------

static void append(struct guarded *one) {
  one->next = NULL;
  if (table.last != NULL) {
    table.last->next = one;
  } else {
    table.first = one;
  }
  table.last = one;
  table.held++;
  table.held_bytes += one->mapped;
  if (!one->closed) table.held_open += one->data_bytes;
}

static struct guarded *take_oldest(void) {
  struct guarded *one = table.first;
  if (one == NULL) return NULL;
  table.first = one->next;
  if (table.first == NULL) table.last = NULL;
  table.held--;
  table.held_bytes -= one->mapped;
  if (!one->closed) table.held_open -= one->data_bytes;
  return one;
}

// Unmaps the oldest; steps out of the lock. False: there is none, or the kernel refuses (the limit on mappings) and it
// is the youngest now.
static bool let_go(size_t *bytes) {
  struct guarded *one = take_oldest();
  if (one == NULL) return false;
  const bool out = hak_mapping_step_out();
  const bool gone = hak_os_unmap(one->start, one->mapped);
  hak_mapping_step_in(out);
  if (!gone) {
    append(one);
    return false;
  }
  hak_guard_budget_give(HAK_GUARD_BLOCK);
  *bytes += one->mapped;
  if (!one->closed) hak_commit_sub(one->data_bytes);
  drop_record(one);
  return true;
}

static bool close_pages(const struct guarded *one) {
  for (size_t done = 0; done < one->data_bytes; done += HAK_MAPPING_SLICE) {
    const size_t rest = one->data_bytes - done;
    if (!hak_os_close(one->data + done, rest < HAK_MAPPING_SLICE ? rest : HAK_MAPPING_SLICE)) return false;
  }
  return true;
}

// Steps out of the lock.
static void hold(struct guarded *one) {
  const bool out = hak_mapping_step_out();
  one->closed = close_pages(one);
  hak_mapping_step_in(out);
  if (one->closed) hak_commit_sub(one->data_bytes);
  append(one);
  size_t bytes = 0;
  while ((table.held > HELD_MAX || table.held_bytes > HELD_BYTES_MAX) && let_go(&bytes)) {
  }
}

static bool is_held(const void *block) {
  for (const struct guarded *one = table.first; one != NULL; one = one->next) {
    if (one->live.address == block) return true;
  }
  return false;
}

// ---- Interface ----------------------------------------------------------------------------------

// Maps the pages that the record's figures ask for. False: out of memory, and the record is no longer the caller's.
static bool map_pages(struct guarded *one, size_t align, size_t page) {
  one->start = hak_os_map_closed(one->mapped);
  if (one->start != NULL) {
    one->data = (char *)hak_round_up((uintptr_t)one->start + page, align > page ? align : page);
    if (hak_os_commit(one->data, one->data_bytes)) return true;
    if (!hak_os_unmap(one->start, one->mapped)) {
      one->live.address = NULL;
      one->closed = true;
      append(one);  // To be unmapped with the rest.
      return false;
    }
  }
  hak_guard_budget_give(HAK_GUARD_BLOCK);
  drop_record(one);
  return false;
}

static void enter(struct guarded *one) {
  hak_address_insert(&table.live, &one->live);
  table.bytes += one->size;
  table.guard_bytes += one->mapped - one->data_bytes;
  table.at_end += one->at_end;
  table.sampled += one->at_end;
}

static struct guarded *leave(struct hak_address_entry **link) {
  struct guarded *one = guarded_of(hak_address_extract(&table.live, link));
  table.bytes -= one->size;
  table.guard_bytes -= one->mapped - one->data_bytes;
  table.at_end -= one->at_end;
  return one;
}

void *hak_guarded_take(size_t size, size_t align, bool at_end, bool *without) {
  const size_t page = hak_os_page_size();
  if (size > PTRDIFF_MAX / 2 || align > PTRDIFF_MAX / 4) return NULL;
  const size_t data_bytes = hak_round_up(size == 0 ? 1 : size, page);
  char *block = NULL;
  bool no_mappings = false;
  hak_mapping_lock();
  struct guarded *one = NULL;
  if ((!at_end || table.at_end < AT_END_MAX) && hak_limit_admit(data_bytes) && hak_address_reserve(&table.live)) {
    no_mappings = !hak_guard_budget_take(HAK_GUARD_BLOCK, 0);
    if (!no_mappings && (one = new_record()) == NULL) hak_guard_budget_give(HAK_GUARD_BLOCK);
  }
  if (one != NULL) {
    one->without = false;
    one->size = size;
    one->at_end = at_end;
    one->data_bytes = data_bytes;
    one->mapped = data_bytes + page + (align > page ? align : page);
    if (map_pages(one, align, page)) {
      block = one->data + (at_end ? data_bytes - hak_round_up(size, align) : 0);
      one->live.address = block;
      enter(one);
      hak_commit_add(data_bytes);
      seal(one);
    } else {
      no_mappings = true;
    }
  }
  hak_mapping_unlock();
  if (without != NULL) *without = no_mappings;
  return block;
}

bool hak_guarded_enter(void *memory, size_t size) {
  hak_mapping_lock();
  struct guarded *one = hak_address_reserve(&table.live) ? new_record() : NULL;
  if (one != NULL) {
    *one =
        (struct guarded){.live = {.address = memory}, .start = memory, .data = memory, .size = size, .without = true};
    one->mapped = one->data_bytes = hak_round_up(size == 0 ? 1 : size, hak_os_page_size());
    enter(one);
    seal(one);
  }
  hak_mapping_unlock();
  return one != NULL;
}

enum hak_guarded_kind hak_guarded_give(void *block) {
  enum hak_guarded_kind kind = HAK_GUARDED_NONE;
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    require_intact(guarded_of(*link));
    struct guarded *one = leave(link);
    kind = one->without ? HAK_GUARDED_WITHOUT : HAK_GUARDED_BLOCK;
    if (one->without) {
      drop_record(one);
    } else {
      hold(one);
    }
  } else if (HAK_UNLIKELY(is_held(block))) {
    hak_fatal("double free", block);
  }
  hak_mapping_unlock();
  return kind;
}

bool hak_guarded_is_held(const void *block) {
  hak_mapping_lock();
  const bool held = is_held(block);
  hak_mapping_unlock();
  return held;
}

size_t hak_guarded_size(const void *block) {
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) require_intact(guarded_of(*link));
  const size_t size = link != NULL ? guarded_of(*link)->size : SIZE_MAX;
  hak_mapping_unlock();
  return size;
}

bool hak_guarded_resize(void *block, size_t size, bool keep_pages) {
  bool done = false;
  hak_mapping_lock();
  struct hak_address_entry **link = hak_address_find(&table.live, block);
  if (link != NULL) {
    struct guarded *one = guarded_of(*link);
    require_intact(one);
    // A block at the end of its pages only gets smaller, where it is.
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

size_t hak_guarded_trim(void) {
  size_t bytes = 0;
  hak_mapping_lock();
  while (let_go(&bytes)) hak_mapping_pass();
  hak_mapping_unlock();
  return bytes;
}

struct hak_guarded_totals hak_guarded_totals(void) {
  hak_mapping_lock();
  const struct hak_guarded_totals totals = {.blocks = table.live.count,
                                            .bytes = table.bytes,
                                            .closed = table.guard_bytes + table.held_bytes - table.held_open,
                                            .held = table.held,
                                            .sampled = table.sampled};
  hak_mapping_unlock();
  return totals;
}

const char *hak_guarded_verify(void) {
  const char *fault = NULL;
  uint64_t bytes = 0;
  uint64_t held = 0;
  hak_mapping_lock();
  if (!hak_address_holds(&table.live)) fault = "guarded block in the wrong bucket";
  for (size_t i = 0; table.live.buckets != NULL && i < table.live.bucket_count; i++) {
    for (struct hak_address_entry *entry = table.live.buckets[i]; entry != NULL; entry = entry->next) {
      require_intact(guarded_of(entry));
      bytes += guarded_of(entry)->size;
    }
  }
  for (const struct guarded *one = table.first; one != NULL; one = one->next) held++;
  if (fault == NULL && bytes != table.bytes) fault = "guarded blocks miscounted";
  if (fault == NULL && held != table.held) fault = "quarantine miscounted";
  hak_mapping_unlock();
  return fault;
}
