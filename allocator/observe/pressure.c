// SPDX-License-Identifier: Apache-2.0
//
// The line about where the memory is, and the program's callback.
#include "allocator/observe/pressure.h"

#include <errno.h>

#include "allocator/observe/statistics.h"
#include "allocator/os/atomic.h"
#include "allocator/os/lock.h"
#include "allocator/os/report.h"
#include "allocator/os/thread_number.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"

// How many size classes the line names.
#define LARGEST 4u

// The lowest rank: the statistics are gathered under it.
static struct hak_lock lock = HAK_LOCK_INIT(HAK_RANK_INIT);

static struct {
  void (*callback)(const hak_pressure *pressure, void *context);
  void *context;
} listener HAK_GUARDED_BY(lock);
// Bit r: this process has written the line of the reason r.
static uint32_t told HAK_GUARDED_BY(lock);
// Not on the stack, because an allocation may run on a small one.
static struct hak_all_statistics all HAK_GUARDED_BY(lock);
// Whether a thread of the parent was in the callback when it forked.
static bool forked_within HAK_GUARDED_BY(lock);

// Whether there is a callback. Relaxed: a hint, which spares threads without one the lock.
static HAK_ATOMIC(bool) has_listener;
// The thread that runs the callback; 0: none. It is also the right to call it. The kernel's number of the thread tells
// fork whose call is running.
static HAK_ATOMIC(uint32_t) running;
#define NO_NUMBER UINT32_MAX  // a filter refuses to tell it

// ---- The line -----------------------------------------------------------------------------------

// Small blocks by class, then large ones by range.
#define ENTRIES (HAK_CLASS_COUNT + HAK_LARGE_RANGES)

static HAK_COLD uint64_t bytes_of(uint32_t entry) HAK_REQUIRES(lock) {
  if (entry >= HAK_CLASS_COUNT) return all.large[entry - HAK_CLASS_COUNT].bytes;
  // Class 0 is none.
  return entry == 0 ? 0 : all.classes[entry].live_blocks * hak_class_usable(entry);
}

// The entry with the most bytes of those that come after `last`, by bytes and then by number. ENTRIES: there is none
// with any bytes, and as `last` it is before all others.
static HAK_COLD uint32_t next_largest(uint32_t last) HAK_REQUIRES(lock) {
  const uint64_t last_bytes = last == ENTRIES ? UINT64_MAX : bytes_of(last);
  uint32_t found = ENTRIES;
  uint64_t most = 0;
  for (uint32_t entry = 0; entry < ENTRIES; entry++) {
    const uint64_t bytes = bytes_of(entry);
    const bool comes_after = bytes < last_bytes || (bytes == last_bytes && last != ENTRIES && entry > last);
    if (!comes_after || bytes <= most) continue;
    found = entry;
    most = bytes;
  }
  return found;
}

static HAK_COLD void put_number(struct hak_line *line, const char *name, uint64_t value) {
  hak_line_text(line, name);
  hak_line_number(line, (int64_t)value);
}

static HAK_COLD void put_entry(struct hak_line *line, uint32_t entry) HAK_REQUIRES(lock) {
  if (entry < HAK_CLASS_COUNT) {
    put_number(line, "", hak_class_usable(entry));
    hak_line_text(line, "-byte blocks ");
  } else if (hak_large_range_end(entry - HAK_CLASS_COUNT) != UINT64_MAX) {
    put_number(line, "blocks up to ", hak_large_range_end(entry - HAK_CLASS_COUNT));
    hak_line_text(line, " bytes ");
  } else {
    put_number(line, "blocks over ", hak_large_range_end(entry - HAK_CLASS_COUNT - 1));
    hak_line_text(line, " bytes ");
  }
  put_number(line, "", bytes_of(entry));
}

static HAK_COLD void put_limit(struct hak_line *line) HAK_REQUIRES(lock) {
  if (all.memory_limit == UINT64_MAX && all.group_limit == UINT64_MAX) {
    hak_line_text(line, " limit_bytes=none");
  } else if (all.memory_limit <= all.group_limit) {
    put_number(line, " limit_bytes=", all.memory_limit);
    hak_line_text(line, " (HAKMEM_MEMORY_LIMIT_MB)");
  } else {
    put_number(line, " limit_bytes=", all.group_limit);
    hak_line_text(line, " (control group)");
  }
}

static HAK_COLD void compose(struct hak_line *line, const hak_pressure *pressure) HAK_REQUIRES(lock) {
  hak_statistics_gather_all(&all);
  hak_line_begin(line);
  hak_line_text(line, "hakmem: memory: ");
  hak_line_text(line, pressure->reason == HAK_PRESSURE_NEAR ? "above 7/8 of the limit" : "a request was refused");
  hak_line_process(line);
  put_number(line, ": request_bytes=", pressure->request_bytes);
  put_limit(line);
  // Those of the request, which the program's callback gets too: by now other threads may have changed it.
  put_number(line, " committed_bytes=", pressure->committed_bytes);
  put_number(line, " live_bytes=", all.process.live_bytes);
  hak_line_text(line, "; largest: ");
  uint32_t entry = ENTRIES;
  for (uint32_t i = 0; i < LARGEST && (entry = next_largest(entry)) != ENTRIES; i++) {
    if (i != 0) hak_line_text(line, ", ");
    put_entry(line, entry);
  }
}

static HAK_COLD void write_once(const hak_pressure *pressure) {
  const uint32_t bit = 1u << pressure->reason;
  struct hak_line line;
  hak_lock_acquire(&lock);
  const bool is_first = (told & bit) == 0;
  told |= bit;
  if (is_first) compose(&line, pressure);
  hak_lock_release(&lock);
  // Under no lock: the terminal may be stopped.
  if (is_first) hak_line_offer(&line);
}

// ---- The callback -------------------------------------------------------------------------------

// False: there is no callback, or it is running.
static HAK_COLD bool call_listener(const hak_pressure *pressure) {
  // Relaxed: see above.
  if (!atomic_load_explicit(&has_listener, memory_order_relaxed)) return false;
  const uint32_t thread = hak_thread_number();
  uint32_t nobody = 0;
  // Acquire: sees what the last call did. Relaxed on failure: nothing is read then.
  if (!atomic_compare_exchange_strong_explicit(&running, &nobody, thread != 0 ? thread : NO_NUMBER,
                                               memory_order_acquire, memory_order_relaxed)) {
    return false;
  }
  hak_lock_acquire(&lock);
  void (*const callback)(const hak_pressure *, void *) = listener.callback;
  void *const context = listener.context;
  hak_lock_release(&lock);
  if (callback != NULL) callback(pressure, context);
  // Release: the next call sees what this one did.
  atomic_store_explicit(&running, 0, memory_order_release);
  return callback != NULL;
}

HAK_COLD void hak_pressure_listen(void (*callback)(const hak_pressure *pressure, void *context), void *context) {
  hak_lock_acquire(&lock);
  listener.callback = callback;
  listener.context = context;
  // Relaxed: see above.
  atomic_store_explicit(&has_listener, callback != NULL, memory_order_relaxed);
  hak_lock_release(&lock);
}

// ---- Events -------------------------------------------------------------------------------------

static HAK_COLD bool report(uint32_t reason, size_t size) {
  const bool writes = HAK_SETTING(autopsy);
  // Relaxed: see above.
  if (!writes && !atomic_load_explicit(&has_listener, memory_order_relaxed)) return false;
  if (hak_lock_is_within() || hak_report_is_ending()) return false;
  const int saved = errno;
  const uint64_t hard = HAK_SETTING(memory_limit_bytes);
  const uint64_t group = hak_limit_totals().group;
  const hak_pressure pressure = {.reason = reason,
                                 .request_bytes = size,
                                 .limit_bytes = hard != 0 && (group == 0 || hard <= group) ? hard : group,
                                 .committed_bytes = hak_commit_now()};
  if (writes) write_once(&pressure);
  const bool called = call_listener(&pressure);
  errno = saved;
  return called;
}

HAK_COLD void hak_pressure_near(size_t size) {
  const uint64_t hard = HAK_SETTING(memory_limit_bytes);
  // The heap grows by at least a slab. Beyond HAKMEM_SOFT_LIMIT_MB nothing fails, so it does not count.
  const struct hak_limit_facts facts = {.committed = hak_commit_now(),
                                        .more = size > HAK_SLAB_SIZE ? size : HAK_SLAB_SIZE,
                                        .purge_at = hak_limit_soft(hard, hak_limit_totals().group, 0),
                                        .hard = hard};
  if (hak_limit_is_near(&facts)) report(HAK_PRESSURE_NEAR, size);
}

HAK_COLD bool hak_pressure_refused(size_t size) { return report(HAK_PRESSURE_REFUSED, size); }

// ---- Fork ---------------------------------------------------------------------------------------

void hak_pressure_lock(void) HAK_NO_THREAD_SAFETY_ANALYSIS("fork has the locks from one handler to another") {
  // Without a check of its rank: the lock of the initialisation has the same.
  hak_lock_acquire_unranked(&lock);
  // Relaxed: a thread reads what it wrote itself, and of other threads only that it was not this one.
  const uint32_t runs = atomic_load_explicit(&running, memory_order_relaxed);
  forked_within = runs != 0 && (runs == hak_thread_number() || runs == NO_NUMBER);
}

void hak_pressure_unlock(void) HAK_NO_THREAD_SAFETY_ANALYSIS("fork has the locks from one handler to another") {
  hak_lock_release_unranked(&lock);
}

void hak_pressure_forked(void) HAK_NO_THREAD_SAFETY_ANALYSIS("the child has one thread") {
  told = 0;
  // Relaxed: the child has one thread. Of a process with one thread the callback's is the one that forked.
  if (!forked_within && hak_lock_holds_all) atomic_store_explicit(&running, 0, memory_order_relaxed);
}
