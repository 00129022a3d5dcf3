// SPDX-License-Identifier: Apache-2.0
//
// Memory system calls of traced processes, by kind. A seccomp filter stops them at these calls only, so all other calls
// cost almost nothing, unlike under strace without --seccomp-bpf. A call counts even if it fails; calls of a 32-bit ABI
// do not count. Used by count_calls and soak_worker.
#ifndef HAKMEM_BENCH_CALL_TRACER_H_
#define HAKMEM_BENCH_CALL_TRACER_H_

#include <stdbool.h>
#include <sys/types.h>

enum call_kind { CALL_MMAP, CALL_MUNMAP, CALL_MADVISE, CALL_MPROTECT, CALL_MREMAP, CALL_BRK, CALL_KINDS };

// In the process to be traced, before its exec. True: the filter is installed, and from now on the calls fail with
// ENOSYS unless the process is traced. False: errno says why not.
bool call_filter_install(void);

// In the tracer: traces `child` and everything that it starts, until the tracer ends. False: refused; errno is set.
bool call_tracer_seize(pid_t child);

// In the tracer, after waitpid(-1, ..., __WALL) has reported a stop of `thread`: the kind of call at which it stopped;
// CALL_KINDS: it stopped for another reason.
int call_tracer_kind(pid_t thread, int status);

// Lets the thread continue. Count the call first, because the thread may read the count at once. False: it cannot
// continue; errno is set.
bool call_tracer_resume(pid_t thread, int status);

#endif  // HAKMEM_BENCH_CALL_TRACER_H_
