// SPDX-License-Identifier: Apache-2.0
//
// The handler of SIGSEGV. It takes no lock that it would have to wait for, allocates nothing, and leaves every fault
// that is not beside or in a block of ours to the default action. A handler that the program sets later replaces it.
#include "allocator/api/guard_report.h"

#include <time.h>

#include "allocator/api/full_report.h"
#include "allocator/block/empty_blocks.h"
#include "allocator/block/size_class.h"
#include "allocator/large/guarded.h"
#include "allocator/os/atomic.h"
#include "allocator/os/lock.h"
#include "allocator/os/report.h"
#include "allocator/os/signal_action.h"
#include "allocator/os/sys_call.h"
#include "allocator/policy/config.h"
#include "allocator/slab/slab.h"
#include "allocator/slab/slab_map.h"

// How often the handler looks again, a millisecond later, while another thread has the lock on the records.
#define LOOKS_MAX 500u
// How long a thread waits for the end of the process that another thread's line announces.
#define WAIT_FOR_END_MS 3000u

static void pause_ms(uint32_t ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  hak_sys_call(SYS_ppoll, 0, 0, (long)&time, 0, 0, 0);
}

// ---- The line -----------------------------------------------------------------------------------

static void begin(struct hak_line *line, const char *what, const void *address) {
  hak_line_begin(line);
  hak_line_text(line, "hakmem: ");
  hak_line_text(line, what);
  hak_line_text(line, ": ");
  hak_line_hex(line, (uint64_t)(uintptr_t)address);
  hak_line_text(line, " (");
}

static void put_bytes(struct hak_line *line, size_t bytes, const char *where) {
  hak_line_number(line, (int64_t)bytes);
  hak_line_text(line, bytes == 1 ? " byte " : " bytes ");
  hak_line_text(line, where);
}

// The byte in front of a block and the first byte behind it are one byte away.
static void describe(struct hak_line *line, const char *address, const struct hak_guarded_beside *beside) {
  const bool before = address < beside->block;
  const size_t into = (size_t)(address - beside->block);
  begin(line, beside->freed ? "use after free" : before ? "underflow" : "overflow", address);
  if (before) {
    put_bytes(line, (size_t)(beside->block - address), "before");
  } else if (into < beside->size) {
    put_bytes(line, into, "into");
  } else {
    put_bytes(line, into - beside->size + 1, "behind");
  }
  hak_line_text(line, beside->freed ? " a freed " : " a ");
  hak_line_number(line, (int64_t)beside->size);
  hak_line_text(line, "-byte block at ");
  hak_line_hex(line, (uint64_t)(uintptr_t)beside->block);
  hak_line_text(line, ")");
}

// ---- What lies at the address -------------------------------------------------------------------

static bool empty_at(const char *block, struct hak_guarded_beside *beside) {
  const enum hak_empty_state state = hak_empty_state_of(block);
  *beside = (struct hak_guarded_beside){.block = block, .freed = state == HAK_EMPTY_FREED};
  return state != HAK_EMPTY_FOREIGN;
}

// A block of size 0: the one that begins at the address or less than a block's place before it, or that follows.
static bool is_beside_empty(const char *address, struct hak_guarded_beside *beside) {
  const char *const place = (const char *)((uintptr_t)address & ~(uintptr_t)(HAK_MIN_ALIGN - 1));
  return empty_at(place, beside) || empty_at(place + HAK_MIN_ALIGN, beside);
}

// The guard page behind the blocks of a slab, and the one in front of a superslab's first block. Which block the access
// was meant for is not known.
static bool is_beside_slab(struct hak_line *line, const char *address) {
  const uint32_t class_id = hak_slab_map_look_up(address);
  if (!hak_class_is_tiny(class_id)) return false;
  const bool before = ((uintptr_t)address & (HAK_SUPERSLAB_SIZE - 1)) < HAK_SUPERSLAB_HEAD;
  if (!before && ((uintptr_t)address & (HAK_SLAB_SIZE - 1)) < HAK_SLAB_ROOM) return false;
  begin(line, before ? "underflow" : "overflow", address);
  hak_line_text(line, before ? "a guard page in front of " : "a guard page behind ");
  hak_line_number(line, (int64_t)hak_class_stride(class_id));
  hak_line_text(line, "-byte blocks)");
  return true;
}

// *block: the block that the line names, or NULL.
static bool is_ours(struct hak_line *line, const char *address, const char **block) {
  struct hak_guarded_beside beside;
  *block = NULL;
  if (HAK_HARDENED && is_beside_empty(address, &beside)) {
    describe(line, address, &beside);
    return true;
  }
  if (HAK_HARDENED && is_beside_slab(line, address)) return true;
  // A fault under a lock is the allocator's own, and what the lock guards may be half changed.
  if (hak_lock_is_within()) return false;
  enum hak_guarded_look look = hak_guarded_look_beside(address, &beside);
  for (uint32_t looks = 1; look == HAK_GUARDED_BUSY && looks < LOOKS_MAX; looks++) {
    pause_ms(1);
    look = hak_guarded_look_beside(address, &beside);
  }
  if (look != HAK_GUARDED_BESIDE) return false;
  describe(line, address, &beside);
  *block = beside.block;
  return true;
}

// ---- The handler --------------------------------------------------------------------------------

// The process whose thread writes the line; a child of fork has another number. Relaxed: nothing else is read by it.
static HAK_ATOMIC(long) reporting;

// False: another thread of the process writes its line.
static bool may_report(void) {
  const long process = hak_sys_getpid();
  // Relaxed: nothing else is read by it.
  return atomic_exchange_explicit(&reporting, process, memory_order_relaxed) != process;
}

// Apart from the handler, so that a fault that is not ours needs little of the stack.
static HAK_NOINLINE bool report(const char *address, const void *context) {
  struct hak_line line;
  struct hak_report_subject subject = {.what = "fault"};
  if (!is_ours(&line, address, &subject.block)) return false;
  if (may_report()) {
    hak_line_write_last(&line);
    hak_full_report(context, &subject);
  } else {
    pause_ms(WAIT_FOR_END_MS);
  }
  return true;
}

static void handle(int signal, siginfo_t *info, void *context) {
  // A code above zero is the kernel's; other signals were sent.
  const bool sent = info->si_code <= 0;
  const bool access = info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR;
  const bool reported = access && report(info->si_addr, context);
  hak_signal_set_default(signal);
  // What was sent does not come by itself again. After a line it must come: another thread may have made the page
  // accessible since. Any other fault is repeated by its instruction.
  if (sent || reported) hak_signal_send_again(info);
}

HAK_COLD void hak_guard_report_start(void) {
  if (HAK_SETTING(guard_report)) hak_signal_handle(SIGSEGV, handle);
}
