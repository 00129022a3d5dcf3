// SPDX-License-Identifier: Apache-2.0
//
// Makes, writes and removes the stats page.
#include "allocator/observe/stats_page.h"

#include "allocator/gate/gate.h"
#include "allocator/observe/statistics_json.h"
#include "allocator/os/auxv.h"
#include "allocator/os/bytes.h"
#include "allocator/os/clock.h"
#include "allocator/os/fault.h"
#include "allocator/os/lock.h"
#include "allocator/os/new_file.h"
#include "allocator/os/report.h"
#include "allocator/os/sys_call.h"

#define PREFIX "/dev/shm/hakmem-stats-"

static_assert(sizeof(struct hak_stats_page) <= HAK_STATS_PAGE_HEAD, "the head has room for it");
static_assert(HAK_STATS_PAGE_SLOT >= sizeof(struct hak_stats_slot), "a slot has room for a text");
static_assert(HAK_STATS_PAGE_HEAD % _Alignof(struct hak_stats_slot) == 0, "slots are aligned");
static_assert(HAK_STATS_PAGE_SLOT % _Alignof(struct hak_stats_slot) == 0, "slots are aligned");

// Set while a thread writes; the others leave it to that thread.
static HAK_ATOMIC(bool) writing;
// When the next text is due. Relaxed: a hint, since the writer decides.
static HAK_ATOMIC(uint64_t) due_ms;
// For the writer. `process` is whose page it is, or who could not make one.
static struct {
  uint64_t process;
  struct hak_stats_page *page;  // NULL: there is none
  bool told;                    // a line has said so
} mine;

static HAK_COLD uint64_t this_process(void) {
  const long process = hak_sys_getpid();
  return process > 0 ? (uint64_t)process : 0;
}

static HAK_COLD uint64_t now_ns(void) {
  const struct timespec now = hak_clock_read(CLOCK_BOOTTIME);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct path {
  char text[sizeof PREFIX + 20];
};

static HAK_COLD void path_of(uint64_t process, struct path *path) {
  struct hak_line number;
  hak_line_begin(&number);
  hak_line_number(&number, (int64_t)process);
  hak_bytes_copy(path->text, PREFIX, sizeof PREFIX - 1);
  hak_bytes_copy(path->text + sizeof PREFIX - 1, number.text, number.length);
  path->text[sizeof PREFIX - 1 + number.length] = '\0';
}

// The file's memory is reserved, because a write to a page that a full file system cannot provide ends the process.
static HAK_COLD long map(int file, void **start) {
  const long reserved =
      hak_fault_due(HAK_FAULT_ASK) ? -ENOSPC : hak_sys_call(SYS_fallocate, file, 0, 0, HAK_STATS_PAGE_BYTES, 0, 0);
  if (reserved < 0) return reserved;
  const long mapped = hak_fault_due(HAK_FAULT_ASK) ? -ENOMEM
                                                   : hak_sys_call(SYS_mmap, 0, HAK_STATS_PAGE_BYTES,
                                                                  PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped < 0 && mapped >= -4095) return mapped;
  *start = (void *)mapped;
  return 0;
}

// 0, or the negative error number.
static HAK_COLD long make(uint64_t process) {
  struct path path;
  path_of(process, &path);
  int file = hak_new_file_create(path.text, O_RDWR);
  if (file == -EEXIST) {
    // An earlier process of this number left it, and was killed. In this folder only its user can remove a file.
    hak_new_file_remove(path.text);
    file = hak_new_file_create(path.text, O_RDWR);
  }
  if (file < 0) return file;
  void *start = NULL;
  const long error = map(file, &start);
  hak_sys_close(file);
  if (error != 0) {
    hak_new_file_remove(path.text);
    return error;
  }
  struct hak_stats_page *page = start;
  page->version = HAK_STATS_PAGE_VERSION;
  page->slot_bytes = HAK_STATS_PAGE_SLOT;
  page->process = process;
  page->made_ns = now_ns();
  hak_bytes_copy(page->magic, "hakmemSP", sizeof page->magic);
  mine.page = page;
  return 0;
}

static HAK_COLD void tell(long error) {
  if (mine.told) return;
  mine.told = true;
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: HAKMEM_STATS_PAGE=1, but there can be no page in /dev/shm: error ");
  hak_line_number(&line, -error);
  hak_line_offer(&line);
}

// The page is the parent's in the child of a fork, whose mapping it inherits.
static HAK_COLD void begin(uint64_t process) {
  if (mine.page != NULL) hak_sys_call(SYS_munmap, (long)mine.page, HAK_STATS_PAGE_BYTES, 0, 0, 0, 0);
  mine.page = NULL;
  mine.process = process;
  if (process == 0 || hak_auxv(HAK_AUXV_SECURE) != 0) return;
  const long error = make(process);
  if (error != 0) tell(error);
}

static HAK_COLD void write_text(struct hak_stats_page *page) {
  // Relaxed: only this process writes it.
  const uint64_t next = atomic_load_explicit(&page->sequence, memory_order_relaxed) + 1;
  struct hak_stats_slot *slot =
      (struct hak_stats_slot *)(void *)((char *)page + HAK_STATS_PAGE_HEAD + (next & 1) * HAK_STATS_PAGE_SLOT);
  const size_t length = hak_statistics_json(slot->text, HAK_STATS_TEXT_BYTES, hak_gate_build_name());
  slot->length = length < HAK_STATS_TEXT_BYTES ? length : 0;
  slot->written_ns = now_ns();
  // Release: whoever reads the number finds the text. The other slot is written again in HAK_STATS_PAGE_MS at the
  // earliest: until then every reader of it sees this number.
  atomic_store_explicit(&page->sequence, next, memory_order_release);
}

// False: another thread writes, or this one must not wait for a lock.
static HAK_COLD bool enter(void) {
  if (hak_lock_is_within() || hak_report_is_ending()) return false;
  // Acquire: sees what the last writer left.
  return !atomic_exchange_explicit(&writing, true, memory_order_acquire);
}

// Release: the next writer sees what this one left.
static HAK_COLD void leave(void) { atomic_store_explicit(&writing, false, memory_order_release); }

HAK_COLD void hak_stats_page_update(uint64_t now_ms) {
  // Relaxed: see above.
  if (now_ms < atomic_load_explicit(&due_ms, memory_order_relaxed) || !enter()) return;
  const uint64_t from_us = hak_os_now_us();
  // A child that was made without the fork handlers is told by its number too.
  const uint64_t process = this_process();
  if (mine.process != process || process == 0) begin(process);
  if (mine.page != NULL) write_text(mine.page);
  const uint64_t pause_ms = (hak_os_now_us() - from_us) * HAK_STATS_PAGE_SHARE / 1000;
  // Relaxed: see above.
  atomic_store_explicit(&due_ms, now_ms + (pause_ms > HAK_STATS_PAGE_MS ? pause_ms : HAK_STATS_PAGE_MS),
                        memory_order_relaxed);
  leave();
}

HAK_COLD void hak_stats_page_end(void) {
  if (!HAK_SETTING(stats_page) || !enter()) return;
  if (mine.page != NULL && mine.process == this_process()) {
    write_text(mine.page);
    struct path path;
    path_of(mine.process, &path);
    hak_new_file_remove(path.text);
  }
  leave();
}

HAK_COLD void hak_stats_page_forked(void) {
  // Relaxed: the child has one thread. The thread that wrote does not exist here.
  atomic_store_explicit(&writing, false, memory_order_relaxed);
  atomic_store_explicit(&due_ms, 0, memory_order_relaxed);
}
