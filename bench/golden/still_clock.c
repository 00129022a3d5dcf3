// SPDX-License-Identifier: Apache-2.0
//
// A clock for runs under valgrind: it advances by a microsecond whenever hakmem reads it, so a run that is slower or
// faster sees the same times, and executes the same instructions.
//
// valgrind redirects a function to one whose name names it: _vgr00000ZU_, the library's soname in valgrind's encoding
// ("Zd" is a dot), and the function. It looks for such names in every object that is loaded, so this library is
// preloaded beside libhakmem.so.
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

__attribute__((visibility("default"))) struct timespec still_clock(clockid_t clock) __asm__(
    "_vgr00000ZU_libhakmemZdso_hak_clock_read");

struct timespec still_clock(clockid_t clock) {
  // Relaxed: only the number matters. Not 0 at the start, which could mean "never".
  static _Atomic(uint64_t) reads = 1000000;
  const uint64_t now_us = atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
  (void)clock;
  return (struct timespec){.tv_sec = (time_t)(now_us / 1000000), .tv_nsec = (long)(now_us % 1000000) * 1000};
}
