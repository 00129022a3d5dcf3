// SPDX-License-Identifier: Apache-2.0
//
// The operating system: with decommit.h the only place that makes memory system calls. Every function preserves errno
// and reports failure by its result. All are thread-safe and take no lock.
#ifndef HAKMEM_OS_OS_H_
#define HAKMEM_OS_OS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The kernel's page size in bytes: 4, 16 or 64 KiB.
size_t hak_os_page_size(void);

// Maps `size` bytes (a multiple of the page size) at a multiple of `align` (a power of two), readable, writable and
// zero. NULL: the kernel refused.
void *hak_os_map(size_t size, size_t align);

// The same at `start`; false: something else is there, or the kernel refused.
bool hak_os_map_at(void *start, size_t size);

// Maps `size` bytes that read as zero and cannot be written. This costs only address space, also where the kernel does
// not overcommit. hak_os_commit makes parts of it writable.
void *hak_os_reserve(size_t size);
// The same, but inaccessible for good.
void *hak_os_reserve_closed(size_t size);
bool hak_os_commit(void *start, size_t size);

// Maps `size` inaccessible bytes (a multiple of the page size); hak_os_commit makes parts of it usable. NULL: the
// kernel refused.
void *hak_os_map_closed(size_t size);
// Makes part of a mapping inaccessible and drops its contents. False: nothing changed.
bool hak_os_close(void *start, size_t size);
// Makes pages inaccessible; they keep their contents. False: nothing changed.
bool hak_os_protect(void *start, size_t size);

// False: the range is still mapped and still the caller's.
bool hak_os_unmap(void *start, size_t size);

// Moves the pages of [start, start + size) to the `new_size` >= `size` bytes at `target`, which are mapped too: what
// they held is lost, and what is beyond `size` there reads as zero. [start, start + size) is no longer mapped. False:
// the pages are where they were, and all of the target reads as zero.
bool hak_os_move_onto(void *start, size_t size, void *target, size_t new_size);

// Milliseconds of a monotonic clock, at the resolution of the scheduler tick.
uint64_t hak_os_now_ms(void);

// Microseconds of a monotonic clock, at its full resolution.
uint64_t hak_os_now_us(void);

// The limit on this process's address space in bytes, UINT64_MAX when there is none.
uint64_t hak_os_address_space_limit(void);

// The process's resident memory in bytes; 0 when /proc cannot be read.
uint64_t hak_os_resident_bytes(void);

// 64 bits that an attacker cannot guess, if the kernel provides random numbers.
uint64_t hak_os_random(void);

// Totals since the process started, for statistics. Each is exact, but they are not read at one moment.
struct hak_os_totals {
  uint64_t calls;              // memory system calls
  uint64_t mapped;             // bytes mapped now, reservations not counted
  uint64_t peak_mapped;        // the highest value of `mapped` so far
  uint64_t decommits;          // successful calls of hak_os_decommit
  uint64_t decommitted_bytes;  // bytes that it returned at once so far
  uint64_t lazy_bytes;         // bytes that it left for the kernel to take when it needs them
};
struct hak_os_totals hak_os_totals(void);

// For this folder: counts one memory system call, and one decommit.
void hak_os_count_call(void);
void hak_os_count_decommit(size_t size, bool lazy);

HAK_C_END

#endif  // HAKMEM_OS_OS_H_
