// SPDX-License-Identifier: Apache-2.0
//
// The trace of a program's calls, as //bench:record writes it and //bench:replay reads it. README.md describes the
// file.
#ifndef HAKMEM_BENCH_REPLAY_TRACE_H_
#define HAKMEM_BENCH_REPLAY_TRACE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TRACE_MAGIC "HAKTRACE"
enum {
  TRACE_VERSION = 1,
  TRACE_HEADER = 10,  // the magic and the version, two bytes, lowest first
  TRACE_MAX_THREADS = 1024,
  TRACE_MAX_ALIGNMENT_BITS = 30,
  TRACE_MAX_SIZE_BITS = 40,
};

// The first byte of a record. Behind it are numbers of seven bits a byte, lowest first, the highest bit for "more".
enum trace_op {
  TRACE_END,      // the number of records before it: the file's last
  TRACE_THREAD,   // the thread of the records that follow; the first ones belong to thread 0
  TRACE_TIME,     // microseconds since the last such record, or since the start
  TRACE_MALLOC,   // size
  TRACE_CALLOC,   // size
  TRACE_ALIGNED,  // the alignment's logarithm, size
  TRACE_REALLOC,  // block, size; the result is a new block
  TRACE_FREE,     // block
  TRACE_OPS,
};
// A block is given by how many blocks are newer: 0 is the latest one.

// One call of the program. Records of threads and times are not calls.
struct trace_call {
  uint64_t size;
  uint32_t block;    // the number of the block that it frees or moves, from 0
  uint32_t made;     // the number of the block that it allocates
  uint32_t time_us;  // since the start
  uint16_t thread;
  uint8_t op;
  uint8_t alignment_bits;
};

struct trace {
  struct trace_call *calls;
  uint32_t *owners;  // by block, the index of the call that made it
  uint64_t count, blocks, threads;
  uint64_t peak_bytes;  // the most that lives at once, in the order of the file
};

// How many calls the bytes have at most.
uint64_t trace_most_calls(uint64_t bytes);

// Reads `size` bytes into `*trace`, whose arrays have room for trace_most_calls(size) elements. NULL, or what is wrong.
const char *trace_read(const unsigned char *bytes, uint64_t size, struct trace *trace);

#ifdef __cplusplus
}
#endif

#endif  // HAKMEM_BENCH_REPLAY_TRACE_H_
