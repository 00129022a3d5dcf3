// SPDX-License-Identifier: Apache-2.0
//
// The only call of madvise, and what it is used for.
#include "allocator/os/decommit.h"

#include <sys/prctl.h>

#include "allocator/os/atomic.h"
#include "allocator/os/bytes.h"
#include "allocator/os/fault.h"
#include "allocator/os/file.h"
#include "allocator/os/os.h"
#include "allocator/os/sys_call.h"

// Linux 5.14; older headers do not name it.
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
// Linux 4.14.
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

// Linux 5.14, and 6.13.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

// Written to the first word of memory before it is returned or closed, to see later whether it really was.
#define MARK 0x6B616D6568216B61u

static bool ask_kernel(void *start, size_t size, int advice) {
#if HAK_SANITIZED
  const int saved = errno;
  const bool done = madvise(start, size, advice) == 0;
  errno = saved;
  return done;
#else
  return hak_sys_call(SYS_madvise, (long)start, (long)size, advice, 0, 0, 0) == 0;
#endif
}

// Whether the range consists of whole pages. A range that is empty, wraps or is not at page boundaries is rejected: the
// kernel would round its end up and take a neighbour's page.
static bool is_whole(const void *start, size_t size) {
  const size_t page = hak_os_page_size();
  uintptr_t end;
  return start != NULL && size != 0 && !__builtin_add_overflow((uintptr_t)start, size, &end) &&
         (((uintptr_t)start | size) & (page - 1)) == 0;
}

// The only use of madvise.
static bool advise(void *start, size_t size, int advice) {
  if (!is_whole(start, size)) return false;
  const bool done = ask_kernel(start, size, advice);
  hak_os_count_call();
  return done;
}

// As advise, for advice that must not be believed if it had no effect: the program may have set a filter by now that
// reports success for all advice and passes none on. Afterwards the same advice is given for an address within a page,
// which the kernel refuses before it does anything. No filter can be removed, so if this call reached the kernel, the
// one before it did too. Without effect, *is_void becomes true.
static bool advise_and_check(void *start, size_t size, int advice, bool *is_void) {
  if (!advise(start, size, advice)) return false;
  *is_void = ask_kernel((char *)start + 1, hak_os_page_size(), advice);
  hak_os_count_call();
  return !*is_void;
}

// Set once advice to return memory had no effect. Relaxed: a thread that does not see it yet finds out by itself.
static HAK_ATOMIC(bool) advice_is_void;

static void note_void_advice(void) { atomic_store_explicit(&advice_is_void, true, memory_order_relaxed); }

bool hak_os_decommit(void *start, size_t size, enum hak_decommit_mode mode) {
  if (mode == HAK_DECOMMIT_OFF || hak_fault_due(HAK_FAULT_DECOMMIT)) return false;
  if (HAK_UNLIKELY(atomic_load_explicit(&advice_is_void, memory_order_relaxed))) return false;
  bool is_void = false;
  // Memory that the kernel may keep until it needs it counts as in use, whether the kernel heard of it or not.
  const bool done = mode == HAK_DECOMMIT_FREE ? advise(start, size, MADV_FREE)
                                              : advise_and_check(start, size, MADV_DONTNEED, &is_void);
  if (HAK_UNLIKELY(is_void)) note_void_advice();
  if (!done) return false;
  hak_os_count_decommit(size, mode == HAK_DECOMMIT_FREE);
  return true;
}

bool hak_os_decommit_to_zero(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_DECOMMIT) || !is_whole(start, size)) return false;
  if (HAK_UNLIKELY(atomic_load_explicit(&advice_is_void, memory_order_relaxed))) return false;
  volatile uint64_t *const first = start;
  const uint64_t before = *first;
  *first = MARK;
  if (advise(start, size, MADV_DONTNEED)) {
    if (HAK_LIKELY(*first == 0)) {
      hak_os_count_decommit(size, false);
      return true;
    }
    note_void_advice();
  }
  *first = before;
  return false;
}

bool hak_os_advise_huge(void *start, size_t size, bool wanted) {
  if (hak_fault_due(HAK_FAULT_ADVISE)) return false;
  return advise(start, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

// The answer of /sys and of the process's own setting: bit 0 is always set, bit 1: "always", bit 2: huge pages of a
// superslab's size are available.
#define ANSWER_KNOWN 1
#define ANSWER_UNASKED 2
#define ANSWER_SUPPLY 4

static int ask(void) {
  char text[64];
  text[hak_os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text - 1)] = '\0';
  int answer = ANSWER_KNOWN;
  if (hak_text_find(text, "[always]") != NULL) answer |= ANSWER_UNASKED;
  const bool some = (answer & ANSWER_UNASKED) != 0 || hak_text_find(text, "[madvise]") != NULL;
  // A huge page is what one page of page table entries maps: with pages of 4 KiB a superslab, otherwise far more.
  static_assert(HAK_SUPERSLAB_SIZE == (size_t)4096 / 8 * 4096, "a superslab is one huge page");
  if (some && hak_os_page_size() == 4096 && hak_sys_call(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0) == 0)
    answer |= ANSWER_SUPPLY;
  return answer;
}

static int answer(void) {
  static HAK_ATOMIC(int) cached;  // 0: not asked yet. Relaxed: every thread gets the same answer.
  int known = atomic_load_explicit(&cached, memory_order_relaxed);
  if (HAK_UNLIKELY(known == 0)) {
    known = ask();
    atomic_store_explicit(&cached, known, memory_order_relaxed);
  }
  return known;
}

bool hak_os_huge_by_default(void) { return (answer() & ANSWER_UNASKED) != 0; }

enum hak_huge_supply hak_os_huge_pages(void) {
  if ((answer() & ANSWER_SUPPLY) == 0) return HAK_HUGE_NEVER;
  return hak_os_huge_by_default() ? HAK_HUGE_ALWAYS : HAK_HUGE_ON_ADVICE;
}

bool hak_os_split_huge(void *page) {
  return !hak_fault_due(HAK_FAULT_ADVISE) && advise(page, hak_os_page_size(), MADV_FREE);
}

bool hak_os_leave_out_of_core(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_ADVISE) && advise(start, size, MADV_DONTDUMP);
}

bool hak_os_populate(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_ADVISE) && advise(start, size, MADV_POPULATE_WRITE);
}

bool hak_os_wipe_on_fork(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_ADVISE) && advise(start, size, MADV_WIPEONFORK);
}

// Whether the kernel has guards. Relaxed: a thread that does not see the answer yet finds out by itself.
enum { GUARDS_UNKNOWN, GUARDS_WORK, GUARDS_ARE_VOID };
static HAK_ATOMIC(int) guards;
static void set_guards(int answer) { atomic_store_explicit(&guards, answer, memory_order_relaxed); }
static int get_guards(void) { return atomic_load_explicit(&guards, memory_order_relaxed); }

bool hak_os_guards_work(void) { return get_guards() != GUARDS_ARE_VOID; }

bool hak_os_guard(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_PROTECT) || get_guards() == GUARDS_ARE_VOID) return false;
  bool done = advise(start, size, MADV_GUARD_INSTALL);
  // Emulators report success for advice that they do not know. Only real guards make populating the pages fail.
  if (done && HAK_UNLIKELY(get_guards() == GUARDS_UNKNOWN)) {
    done = !advise(start, hak_os_page_size(), MADV_POPULATE_READ);
    if (done) set_guards(GUARDS_WORK);
  }
  if (!done) set_guards(GUARDS_ARE_VOID);
  return done;
}

bool hak_os_guard_used(void *start, size_t size) {
  if (get_guards() == GUARDS_ARE_VOID) return false;
  *(volatile uint64_t *)start = MARK;
  return hak_os_guard(start, size);
}

// Whether pages that were just opened are zero, as far as their first word tells. Relaxed: no other thread has them. An
// exchange, because a read would map the zero page, and the next write would fault again.
static bool begins_zero(void *start) {
  return atomic_exchange_explicit((HAK_ATOMIC(uint64_t) *)start, 0, memory_order_relaxed) == 0;
}

bool hak_os_unguard(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_COMMIT) || get_guards() == GUARDS_ARE_VOID) return false;
  bool is_void = false;
  const bool done = advise_and_check(start, size, MADV_GUARD_REMOVE, &is_void);
  // Another thread's filter, which this thread does not have, may have kept the pages from being closed.
  if (done && HAK_LIKELY(begins_zero(start))) return true;
  if (done || is_void) set_guards(GUARDS_ARE_VOID);
  return false;
}
