// SPDX-License-Identifier: Apache-2.0
//
// Heap profiles in pprof's format (profile.proto, in gzip) from the samples that hakmem takes while HAKMEM_PROF is on:
// alloc_objects, alloc_space, inuse_objects, inuse_space; what these two were at the peak, peak_objects and peak_space;
// fragmentation, the bytes that lie free in slabs because live blocks keep these in use; and of freed blocks
// lifetime_objects, lifetime_space, and lifetime_time, the sum of how long they lived in microseconds; and
// growth_objects and growth_space, what is live now less what was at hak_prof_mark; of each stack.
// hakmem-prof and `go tool pprof` read them.
// A library of its own, @hakmem//allocator:pprof, so that only programs that want it have its code; libhakmem.so has
// it. With it hakmem also writes profiles without a call, at the end of the process, by signal, and as it grows:
// HAKMEM_PROF_DUMP, HAKMEM_DUMP_SIGNAL, HAKMEM_PROF_DUMP_GROWTH_MB, docs/OBSERVABILITY.md.
//
// The first two functions: thread-safe; EBUSY while another thread writes a profile; ENOTSUP in FAST, which has no
// samples. They allocate nothing and take no lock of the program, so a program may call them when it is out of memory;
// they wait for locks of the allocator, so not in a signal handler that may have interrupted malloc or free.
#ifndef HAKMEM_PPROF_H_
#define HAKMEM_PPROF_H_

#include <hakmem/hakmem.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Writes a profile by calls of write(context, bytes, size), which returns 0 or an error number; after an error it is
// not called again. No lock is held during a call: it may allocate. Returns 0, that error number, EINVAL for a NULL
// `write`, or as above.
HAK_EXPORT int hak_prof_write(int (*write)(void *context, const void *bytes, size_t size), void *context) HAK_NOEXCEPT;

// Writes a profile to a new file, which only the program's user may read (mode 0600). In `pattern` %p stands for the
// process, %n for a number that rises by one with each call, and %% for a percent sign. Returns 0; EINVAL for NULL,
// another character behind a percent sign, or a path of more than 4,095 bytes; EEXIST if there is anything of that
// name; EPERM in a program with privileges that its caller does not have (AT_SECURE); what open(2), write(2) or
// close(2) report, and then there is no file. A file that would exceed RLIMIT_FSIZE raises SIGXFSZ.
HAK_EXPORT int hak_prof_dump(const char *pattern) HAK_NOEXCEPT;

// Marks this moment: later profiles have in growth_objects and growth_space what has grown since, by stack; below 0 if
// more was freed than allocated. Each call replaces the last mark; before the first one the growth is that since
// sampling began. Takes the same short time however large the heap is. Thread-safe. Returns 0, or ENOTSUP in FAST.
HAK_EXPORT int hak_prof_mark(void) HAK_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // HAKMEM_PPROF_H_
