// SPDX-License-Identifier: Apache-2.0
//
// Maps, unmaps and moves memory; the time; limits and resident memory; random numbers.
#include "allocator/os/os.h"

#include <sys/resource.h>
#include <time.h>

#include "allocator/os/atomic.h"
#include "allocator/os/auxv.h"
#include "allocator/os/clock.h"
#include "allocator/os/fault.h"
#include "allocator/os/file.h"
#include "allocator/os/siphash.h"
#include "allocator/os/sys_call.h"

// Relaxed throughout: statistics that order nothing.
static struct {
  HAK_ATOMIC(uint64_t) calls;
  HAK_ATOMIC(uint64_t) mapped;
  HAK_ATOMIC(uint64_t) peak_mapped;
  HAK_ATOMIC(uint64_t) decommits;
  HAK_ATOMIC(uint64_t) decommitted_bytes;
  HAK_ATOMIC(uint64_t) lazy_bytes;
} totals;

void hak_os_count_call(void) { atomic_fetch_add_explicit(&totals.calls, 1, memory_order_relaxed); }

void hak_os_count_decommit(size_t size, bool lazy) {
  atomic_fetch_add_explicit(&totals.decommits, 1, memory_order_relaxed);
  HAK_ATOMIC(uint64_t) *bytes = lazy ? &totals.lazy_bytes : &totals.decommitted_bytes;
  // Relaxed: a statistic.
  atomic_fetch_add_explicit(bytes, size, memory_order_relaxed);
}

static void count_mapped(size_t size) {
  const uint64_t now = size + atomic_fetch_add_explicit(&totals.mapped, size, memory_order_relaxed);
  uint64_t peak = atomic_load_explicit(&totals.peak_mapped, memory_order_relaxed);
  while (now > peak && !atomic_compare_exchange_weak_explicit(&totals.peak_mapped, &peak, now, memory_order_relaxed,
                                                              memory_order_relaxed)) {
  }
}

static void count_unmapped(size_t size) { atomic_fetch_sub_explicit(&totals.mapped, size, memory_order_relaxed); }

size_t hak_os_page_size(void) {
  const size_t size = hak_auxv(HAK_AUXV_PAGE_SIZE);
  return HAK_LIKELY(size != 0) ? size : 4096;
}

// The kernel accounts for blocks by its policy (vm.overcommit_memory), because programs rely on unreasonable requests
// failing.
#define MAP_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)
// Reservations are not accounted for: they have no memory until a part of them is committed.
#define RESERVE_FLAGS (MAP_FLAGS | MAP_NORESERVE)

// Whether a system call that returns an address returned an error number instead.
static bool failed(long address) { return address < 0 && address > -4096; }

// One mmap of anonymous memory; NULL: the kernel refused.
static void *map_anywhere(size_t size, int protection, int flags) {
  if (hak_fault_due(HAK_FAULT_MAP)) return NULL;
  const long start = hak_sys_mmap(NULL, size, protection, flags);
  hak_os_count_call();
  return failed(start) ? NULL : (void *)start;
}

static bool unmap_quietly(void *start, size_t size) {
  const bool done = hak_sys_munmap(start, size) == 0;
  hak_os_count_call();
  return done;
}

static void trim(void *start, size_t size) {
  if (size != 0 && !hak_fault_due(HAK_FAULT_TRIM)) unmap_quietly(start, size);
}

void *hak_os_map(size_t size, size_t align) {
  if (size == 0 || size > PTRDIFF_MAX - align) return NULL;
  void *start = map_anywhere(size, PROT_READ | PROT_WRITE, MAP_FLAGS);
  if (start == NULL) return NULL;
  if (((uintptr_t)start & (align - 1)) == 0) {
    count_mapped(size);
    return start;
  }
  // Not aligned by chance: map enough to contain an aligned part, and unmap the rest.
  trim(start, size);
  const size_t slack = align - hak_os_page_size();
  char *wide = map_anywhere(size + slack, PROT_READ | PROT_WRITE, MAP_FLAGS);
  if (wide == NULL) return NULL;
  char *aligned = (char *)hak_round_up((uintptr_t)wide, align);
  const size_t before = (size_t)(aligned - wide);
  // If trim fails (at the limit on mappings), unused address space remains, but no memory.
  trim(wide, before);
  trim(aligned + size, slack - before);
  count_mapped(size);
  return aligned;
}

bool hak_os_map_at(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_MAP)) return false;
  // A hint: nothing that is there is replaced.
  const long now = hak_sys_mmap(start, size, PROT_READ | PROT_WRITE, MAP_FLAGS);
  hak_os_count_call();
  if (failed(now)) return false;
  if ((void *)now != start) {
    unmap_quietly((void *)now, size);
    return false;
  }
  count_mapped(size);
  return true;
}

void *hak_os_reserve(size_t size) { return map_anywhere(size, PROT_READ, RESERVE_FLAGS); }
void *hak_os_reserve_closed(size_t size) { return map_anywhere(size, PROT_NONE, RESERVE_FLAGS); }

static bool set_protection(void *start, size_t size, int protection) {
  const bool done = hak_sys_mprotect(start, size, protection) == 0;
  hak_os_count_call();
  return done;
}

bool hak_os_commit(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_COMMIT) && set_protection(start, size, PROT_READ | PROT_WRITE);
}

bool hak_os_protect(void *start, size_t size) {
  return !hak_fault_due(HAK_FAULT_PROTECT) && set_protection(start, size, PROT_NONE);
}

void *hak_os_map_closed(size_t size) {
  if (size == 0 || size > PTRDIFF_MAX) return NULL;
  void *start = map_anywhere(size, PROT_NONE, MAP_FLAGS);
  if (start != NULL) count_mapped(size);
  return start;
}

bool hak_os_close(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_PROTECT)) return false;
  const bool done = !failed(hak_sys_mmap(start, size, PROT_NONE, MAP_FLAGS | MAP_FIXED));
  hak_os_count_call();
  return done;
}

bool hak_os_unmap(void *start, size_t size) {
  if (hak_fault_due(HAK_FAULT_UNMAP)) return false;
  if (!unmap_quietly(start, size)) return false;
  count_unmapped(size);
  return true;
}

bool hak_os_move_onto(void *start, size_t size, void *target, size_t new_size) {
  if (hak_fault_due(HAK_FAULT_REMAP)) return false;
  const long now = hak_sys_mremap(start, size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  hak_os_count_call();
  if (!failed(now)) {
    count_unmapped(size);
    return true;
  }
  // The kernel may have unmapped the target before it gave up.
  hak_sys_mmap(target, new_size, PROT_READ | PROT_WRITE, MAP_FLAGS | MAP_FIXED);
  hak_os_count_call();
  return false;
}

uint64_t hak_os_now_ms(void) {
  const struct timespec now = hak_clock_read(CLOCK_MONOTONIC_COARSE);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t hak_os_now_us(void) {
  const struct timespec now = hak_clock_read(CLOCK_MONOTONIC);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t hak_os_address_space_limit(void) {
  if (hak_fault_due(HAK_FAULT_ASK)) return UINT64_MAX;
  struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
  const long error = hak_sys_call(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&limit, 0, 0);
  return error == 0 && limit.rlim_cur != RLIM_INFINITY ? (uint64_t)limit.rlim_cur : UINT64_MAX;
}

// Parses the number at text[*at]; *at then points behind it.
static uint64_t parse_number(const char *text, size_t *at) {
  uint64_t number = 0;
  for (; text[*at] >= '0' && text[*at] <= '9'; (*at)++) number = number * 10 + (uint64_t)(text[*at] - '0');
  return number;
}

static HAK_COLD uint64_t resident_by(const char *path) {
  char text[128];
  text[hak_os_read_file(path, text, sizeof text - 1)] = '\0';
  // The second number is the resident set, in pages.
  size_t at = 0;
  parse_number(text, &at);
  if (text[at] == ' ') at++;
  return parse_number(text, &at) * hak_os_page_size();
}

HAK_COLD uint64_t hak_os_resident_bytes(void) {
  const uint64_t bytes = resident_by("/proc/self/statm");
  // Of a process whose main thread has ended the kernel says 0 there.
  return bytes != 0 ? bytes : resident_by("/proc/thread-self/statm");
}

// Asks the kernel for a key once, because a sandbox may forbid it later. All random numbers are derived from that key,
// which never leaves this file, so that known numbers reveal nothing about others. Relaxed: if two threads draw a key
// at once, either key will do.
static struct {
  HAK_ATOMIC(uint64_t) key[2];
  HAK_ATOMIC(bool) drawn;  // release after the key, acquire before it
  HAK_ATOMIC(uint64_t) count;
} secret;

static bool draw_key(void) {
  uint64_t key[2];
  // Acquire: pairs with the store below.
  if (HAK_LIKELY(atomic_load_explicit(&secret.drawn, memory_order_acquire))) return true;
  if (hak_fault_due(HAK_FAULT_ASK) || hak_sys_getrandom(key, sizeof key, GRND_NONBLOCK) != (long)sizeof key) {
    return false;
  }
  for (int i = 0; i < 2; i++) atomic_store_explicit(&secret.key[i], key[i], memory_order_relaxed);
  // Release: a thread that sees it sees the key.
  atomic_store_explicit(&secret.drawn, true, memory_order_release);
  return true;
}

uint64_t hak_os_random(void) {
  // The clock is included because the child of a fork has its parent's key and count.
  const struct timespec now = hak_clock_read(CLOCK_MONOTONIC);
  const uint64_t time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  const uint64_t count = atomic_fetch_add_explicit(&secret.count, 1, memory_order_relaxed);
  if (draw_key()) {
    const uint64_t key[2] = {atomic_load_explicit(&secret.key[0], memory_order_relaxed),
                             atomic_load_explicit(&secret.key[1], memory_order_relaxed)};
    return hak_siphash(key, (const uint64_t[2]){count, time});
  }
  // Without a key (early boot) only the loader's addresses and the clock are available.
  return (uint64_t)(uintptr_t)&count * 0x9E3779B97F4A7C15u ^ (time + count) * 0xD6E8FEB86659FD93u;
}

struct hak_os_totals hak_os_totals(void) {
  const struct hak_os_totals now = {
      .calls = atomic_load_explicit(&totals.calls, memory_order_relaxed),
      .mapped = atomic_load_explicit(&totals.mapped, memory_order_relaxed),
      .peak_mapped = atomic_load_explicit(&totals.peak_mapped, memory_order_relaxed),
      .decommits = atomic_load_explicit(&totals.decommits, memory_order_relaxed),
      .lazy_bytes = atomic_load_explicit(&totals.lazy_bytes, memory_order_relaxed),
      .decommitted_bytes = atomic_load_explicit(&totals.decommitted_bytes, memory_order_relaxed),
  };
  return now;
}
