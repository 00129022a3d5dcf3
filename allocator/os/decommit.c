// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/decommit.h"

#include <string.h>

#include "allocator/os/atomic.h"
#include "allocator/os/fault.h"
#include "allocator/os/file.h"
#include "allocator/os/os.h"
#include "allocator/os/sys_call.h"

// Linux 5.14; older headers do not name it.
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

// What a word of memory that goes back holds until it is gone.
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

// Whether the range is of whole pages. One that is empty, wraps or is off page boundaries is refused: the kernel would
// round its end up and take a neighbour's page.
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

// Advice to give memory back was seen to do nothing. Relaxed: whoever does not see it yet finds out by itself.
static HAK_ATOMIC(bool) advice_is_void;

bool hak_os_decommit(void *start, size_t size, enum hak_decommit_mode mode) {
  if (mode == HAK_DECOMMIT_OFF || hak_fault_due(HAK_FAULT_DECOMMIT)) return false;
  if (HAK_UNLIKELY(atomic_load_explicit(&advice_is_void, memory_order_relaxed))) return false;
  if (!advise(start, size, mode == HAK_DECOMMIT_FREE ? MADV_FREE : MADV_DONTNEED)) return false;
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
    atomic_store_explicit(&advice_is_void, true, memory_order_relaxed);
  }
  *first = before;
  return false;
}

bool hak_os_advise_huge(void *start, size_t size, bool wanted) {
  if (hak_fault_due(HAK_FAULT_ADVISE)) return false;
  return advise(start, size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

bool hak_os_huge_by_default(void) {
  static HAK_ATOMIC(int) cached;  // 0: not read yet. Relaxed: every thread reads the same file.
  int answer = atomic_load_explicit(&cached, memory_order_relaxed);
  if (HAK_UNLIKELY(answer == 0)) {
    char text[64];
    text[hak_os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text - 1)] = '\0';
    answer = strstr(text, "[always]") != NULL ? 2 : 1;
    atomic_store_explicit(&cached, answer, memory_order_relaxed);
  }
  return answer == 2;
}

bool hak_os_populate(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_ADVISE) && advise(start, size, MADV_POPULATE_WRITE);
}
