// SPDX-License-Identifier: Apache-2.0
//
// The reader of traces (bench/replay/trace.h) on any bytes, against a naive reader: it accepts the same files, and
// finds the same calls in them.
//
// The first byte of an input says what is made of the others: bit 0 puts the right beginning of a file before them, bit
// 1 the right last record behind them. Otherwise few inputs would be traces.
#ifndef HAKMEM_FUZZ_TRACE_ENGINE_H_
#define HAKMEM_FUZZ_TRACE_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "bench/replay/trace.h"

namespace hak_fuzz {

// The function under test; controls replace it.
struct TraceCalls {
  const char *(*read)(const unsigned char *bytes, uint64_t size, struct trace *trace) = trace_read;
};

// Runs one input; throws what is wrong (fuzz_target.h).
void RunTraceInput(const TraceCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_TRACE_ENGINE_H_
