// SPDX-License-Identifier: Apache-2.0
//
// The engine of trace_fuzzer on readers with planted bugs: it must notice each, and must find nothing in the right one.
#include <gtest/gtest.h>
#include <string.h>

#include <vector>

#include "fuzz/controls.h"
#include "fuzz/trace_engine.h"

namespace hak_fuzz {
namespace {

// The reason to refuse that a planted reader does not have.
const char *g_ignored;

const char *Ignores(const unsigned char *bytes, uint64_t size, struct trace *trace) {
  const char *wrong = trace_read(bytes, size, trace);
  return wrong != nullptr && strstr(wrong, g_ignored) != nullptr ? nullptr : wrong;
}

// What a planted reader does to the calls that it has read.
void (*g_change)(struct trace *trace);

const char *Changes(const unsigned char *bytes, uint64_t size, struct trace *trace) {
  const char *wrong = trace_read(bytes, size, trace);
  if (wrong == nullptr) g_change(trace);
  return wrong;
}

const char *RefusesAll(const unsigned char *, uint64_t, struct trace *) { return "no"; }

// Short records that follow each other well; some ends are wrong.
std::vector<uint8_t> RandomTrace(uint64_t seed) {
  hak_test::Random random(seed);
  std::vector<uint8_t> input = {static_cast<uint8_t>(random.Index(8) == 0 ? random.Index(4) : 3)};
  if (random.Index(16) == 0) {
    // A beginning of its own, of another version or not.
    input = {0, 'H', 'A', 'K', 'T', 'R', 'A', 'C', 'E', static_cast<uint8_t>(random.Index(3)), 0};
  }
  const size_t records = random.Index(30);
  size_t blocks = 0;
  for (size_t i = 0; i < records; ++i) {
    const auto small = [&random](size_t below) { return static_cast<uint8_t>(random.Index(below)); };
    const auto op = static_cast<uint8_t>(random.Index(40) == 0 ? random.Index(10) : 1 + random.Index(7));
    input.push_back(op);
    if (op == TRACE_ALIGNED) input.push_back(random.Index(8) == 0 ? 31 : small(31));
    if (op == TRACE_REALLOC || op == TRACE_FREE) input.push_back(small(blocks + (random.Index(16) == 0 ? 2 : 1)));
    if (op == TRACE_FREE) continue;
    // Now and then a number of several bytes: a terabyte, an hour of microseconds, or one that does not end.
    if (random.Index(24) == 0) input.insert(input.end(), 3 + random.Index(8), 0xFF);
    input.push_back(op == TRACE_THREAD ? small(3) : small(128));
    if (op >= TRACE_MALLOC && op <= TRACE_REALLOC) ++blocks;
  }
  if (random.Index(8) == 0) input.pop_back();
  return input;
}

void ExpectTrace(const TraceCalls &calls, const char *what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunTraceInput(calls, data, size); }, what, RandomTrace, 4000);
}

TEST(TraceControl, TheRightReader) { ExpectTrace({}, "nothing"); }

TEST(TraceControl, RefusesAll) { ExpectTrace({RefusesAll}, "a good trace is refused"); }

TEST(TraceControl, EachReasonToRefuseIsNeeded) {
  for (const char *reason :
       {"not a trace", "another version", "cut:", "cut in the middle", "more behind", "are missing", "freed before",
        "never allocated", "1 TiB", "alignment", "out of order", "an hour", "unknown kind", "no calls", "63 bits"}) {
    SCOPED_TRACE(reason);
    g_ignored = reason;
    ExpectTrace({Ignores}, "a bad trace is accepted");
  }
}

TEST(TraceControl, EachPartIsCompared) {
  struct Part {
    void (*change)(struct trace *trace);
    const char *what;
  };
  const Part parts[] = {
      {[](struct trace *trace) { trace->count--; }, "another number of calls"},
      {[](struct trace *trace) { trace->blocks++; }, "another number of blocks"},
      {[](struct trace *trace) { trace->threads++; }, "another number of threads"},
      {[](struct trace *trace) { trace->peak_bytes++; }, "another peak"},
      {[](struct trace *trace) { trace->calls[0].op ^= 1; }, "another kind of call"},
      {[](struct trace *trace) { trace->calls[0].thread++; }, "another thread"},
      {[](struct trace *trace) { trace->calls[0].time_us++; }, "another time"},
      {[](struct trace *trace) { trace->calls[0].size++; }, "another size"},
      {[](struct trace *trace) { trace->calls[0].alignment_bits++; }, "another alignment"},
      {[](struct trace *trace) { trace->calls[trace->count - 1].block++; }, "another block is freed"},
      {[](struct trace *trace) { trace->calls[0].made++; }, "another block is made"},
      {[](struct trace *trace) { trace->owners[0]++; }, "another call made the block"},
  };
  for (const Part &part : parts) {
    SCOPED_TRACE(part.what);
    g_change = part.change;
    ExpectTrace({Changes}, part.what);
  }
}

}  // namespace
}  // namespace hak_fuzz
