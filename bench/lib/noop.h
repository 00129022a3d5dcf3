// SPDX-License-Identifier: Apache-2.0
//
// What the no-op floor has besides malloc's own functions. The harness refers to them weakly: they are there only when
// the floor is preloaded.
#ifndef HAKMEM_BENCH_NOOP_H_
#define HAKMEM_BENCH_NOOP_H_

// From enter to leave the calling thread's blocks are given out again while they are in use.
void hakmem_bench_noop_enter(void);
void hakmem_bench_noop_leave(void);

#endif  // HAKMEM_BENCH_NOOP_H_
