// SPDX-License-Identifier: Apache-2.0
//
// The functions of the no-op floor besides malloc's. The harness refers to them weakly, because they exist only if the
// floor is preloaded.
#ifndef HAKMEM_BENCH_NOOP_H_
#define HAKMEM_BENCH_NOOP_H_

// Between enter and leave the calling thread's blocks are handed out again while they are in use.
void hakmem_bench_noop_enter(void);
void hakmem_bench_noop_leave(void);

#endif  // HAKMEM_BENCH_NOOP_H_
