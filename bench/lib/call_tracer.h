// SPDX-License-Identifier: Apache-2.0
//
// Memory system calls of traced processes, by kind. A seccomp filter stops them at these calls only, so all others cost
// next to nothing, unlike under strace without --seccomp-bpf. A call counts when it is made, whether or not it
// succeeds; calls of a 32-bit ABI do not count. For count_calls and soak_worker.
#ifndef HAKMEM_BENCH_CALL_TRACER_H_
#define HAKMEM_BENCH_CALL_TRACER_H_

#include <stdbool.h>
#include <sys/types.h>

enum call_kind { CALL_MMAP, CALL_MUNMAP, CALL_MADVISE, CALL_MPROTECT, CALL_MREMAP, CALL_BRK, CALL_KINDS };

// In the process to be traced, before its exec: true when the filter is in place, otherwise errno says why not. From
// then on the calls fail with ENOSYS unless somebody traces the process.
bool call_filter_install(void);

// In the tracer: traces `child` and whatever it starts, until the tracer ends. False with errno when that is refused.
bool call_tracer_seize(pid_t child);

// In the tracer, when waitpid(-1, ..., __WALL) gave a stop of `thread`: the kind of call that it stopped at, CALL_KINDS
// when it was none.
int call_tracer_kind(pid_t thread, int status);

// Then lets it go on; whoever counts does so before, for the thread may read the figure at once. False with errno when
// it cannot go on.
bool call_tracer_resume(pid_t thread, int status);

#endif  // HAKMEM_BENCH_CALL_TRACER_H_
