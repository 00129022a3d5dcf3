// SPDX-License-Identifier: Apache-2.0
//
// The operating system: with decommit.h the only place that makes memory system calls. Every function leaves errno as
// it was and reports failure by its result. All are thread-safe and take no lock.
#ifndef HAKMEM_OS_OS_H_
#define HAKMEM_OS_OS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Bytes of a page of this kernel: 4, 16 or 64 KiB.
size_t hak_os_page_size(void);

// Maps `size` bytes (a multiple of the page size) at a multiple of `align` (a power of two), readable, writable and
// zero. NULL when the kernel refuses.
void *hak_os_map(size_t size, size_t align);

// Maps `size` bytes that read as zero and may not be written: costs address space and nothing else, also where the
// kernel does not overcommit. hak_os_commit makes parts of it writable.
void *hak_os_reserve(size_t size);
// The same, but not to be touched at all, for good.
void *hak_os_reserve_closed(size_t size);
bool hak_os_commit(void *start, size_t size);

// Maps `size` bytes (a multiple of the page size) that may not be touched; hak_os_commit makes parts of it usable. NULL
// when the kernel refuses.
void *hak_os_map_closed(size_t size);
// Makes part of a mapping untouchable, memory and all: what it held is gone. False: it is as it was.
bool hak_os_close(void *start, size_t size);
// Makes pages untouchable; they keep their memory. False: they are as they were.
bool hak_os_protect(void *start, size_t size);

// False: the range is still mapped and still the caller's.
bool hak_os_unmap(void *start, size_t size);

// Changes the size of a mapping in place; true on success.
bool hak_os_resize(void *start, size_t old_size, size_t new_size);
// Changes the size of a mapping, moving it where it must. NULL: it is where and as it was.
void *hak_os_move(void *start, size_t old_size, size_t new_size);

// Milliseconds of a clock that never goes back, at the resolution of the scheduler tick.
uint64_t hak_os_now_ms(void);

// Microseconds of the same kind of clock, at its full resolution.
uint64_t hak_os_now_us(void);

// The limit on this process's address space in bytes, UINT64_MAX when there is none.
uint64_t hak_os_address_space_limit(void);

// The process's resident memory in bytes; 0 when /proc does not tell.
uint64_t hak_os_resident_bytes(void);

// 64 bits that an attacker cannot guess, as far as the kernel gives them.
uint64_t hak_os_random(void);

// Totals since the process started, for statistics; each is exact, but they are not read together.
struct hak_os_totals {
  uint64_t calls;              // memory system calls
  uint64_t mapped;             // bytes mapped now, reservations not counted
  uint64_t peak_mapped;        // and the most they have been
  uint64_t decommits;          // successful calls of hak_os_decommit
  uint64_t decommitted_bytes;  // bytes it gave back at once so far
  uint64_t lazy_bytes;         // bytes it left for the kernel to take when it needs them
};
struct hak_os_totals hak_os_totals(void);

// For this floor: counts one memory system call, and one decommit.
void hak_os_count_call(void);
void hak_os_count_decommit(size_t size, bool lazy);

HAK_C_END

#endif  // HAKMEM_OS_OS_H_
