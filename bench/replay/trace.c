// SPDX-License-Identifier: Apache-2.0
//
// Reads traces. A file from anywhere is either understood completely or refused: nothing that it says is used before it
// is checked.
#include "bench/replay/trace.h"

#include <string.h>

// Marks the owners of blocks that are freed; files of 2 GiB have no such number of calls.
static const uint32_t kFreed = UINT32_C(1) << 31;

struct reader {
  const unsigned char *at, *end;
  const char *wrong;
};

static uint64_t number_of(struct reader *r) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 63; shift += 7) {
    if (r->at == r->end) {
      r->wrong = "cut in the middle of a record";
      return 0;
    }
    const unsigned char byte = *r->at++;
    value |= (uint64_t)(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  r->wrong = "a number of more than 63 bits";
  return 0;
}

// A record of a call has two bytes or more.
uint64_t trace_most_calls(uint64_t bytes) { return bytes / 2; }

static uint64_t size_of(struct reader *r) {
  const uint64_t size = number_of(r);
  if (size >> TRACE_MAX_SIZE_BITS) r->wrong = "a block of 1 TiB or more";
  return size;
}

// The block of the record, which must be live.
static uint32_t block_of(struct reader *r, const struct trace *t) {
  const uint64_t newer = number_of(r);
  if (r->wrong) return 0;
  if (newer >= t->blocks) {
    r->wrong = "a block that was never allocated";
    return 0;
  }
  const uint32_t block = (uint32_t)(t->blocks - 1 - newer);
  if (t->owners[block] & kFreed) r->wrong = "a block that was freed before";
  return block;
}

static void call_read(struct reader *r, struct trace *t, struct trace_call call, uint64_t *live) {
  if (call.op == TRACE_REALLOC || call.op == TRACE_FREE) {
    call.block = block_of(r, t);
    if (r->wrong) return;
    *live -= t->calls[t->owners[call.block]].size;
    t->owners[call.block] |= kFreed;
  }
  if (call.op == TRACE_ALIGNED) {
    const uint64_t bits = number_of(r);
    if (bits > TRACE_MAX_ALIGNMENT_BITS) r->wrong = "an alignment of more than 1 GiB";
    call.alignment_bits = (uint8_t)bits;
  }
  if (call.op != TRACE_FREE) {
    call.size = size_of(r);
    call.made = (uint32_t)t->blocks;
    if (r->wrong) return;
    *live += call.size;
    if (*live > t->peak_bytes) t->peak_bytes = *live;
    t->owners[t->blocks++] = (uint32_t)t->count;
  }
  if (!r->wrong) t->calls[t->count++] = call;
}

static const char *header_read(const unsigned char *bytes, uint64_t size) {
  if (size < TRACE_HEADER || memcmp(bytes, TRACE_MAGIC, TRACE_HEADER - 2) != 0) return "not a trace of //bench:record";
  if ((bytes[8] | bytes[9] << 8) != TRACE_VERSION) return "a trace of another version";
  return NULL;
}

const char *trace_read(const unsigned char *bytes, uint64_t size, struct trace *t) {
  const char *wrong = header_read(bytes, size);
  if (wrong) return wrong;
  if (size >> 31) return "2 GiB or more";
  struct reader r = {bytes + TRACE_HEADER, bytes + size, NULL};
  t->count = t->blocks = t->peak_bytes = 0;
  t->threads = 1;
  uint64_t live = 0, time_us = 0, thread = 0, records = 0;
  while (r.at != r.end) {
    const unsigned char op = *r.at++;
    if (op == TRACE_END) {
      if (number_of(&r) != records && !r.wrong) r.wrong = "records are missing";
      if (r.at != r.end && !r.wrong) r.wrong = "more behind the last record";
      break;
    }
    records++;
    if (op == TRACE_THREAD) {
      thread = number_of(&r);
      // A thread's number is the next one when it comes first.
      if (thread > t->threads || thread >= TRACE_MAX_THREADS) r.wrong = "a thread that is out of order";
      if (thread == t->threads) t->threads++;
    } else if (op == TRACE_TIME) {
      time_us += number_of(&r);
      if (time_us > UINT32_MAX) r.wrong = "more than an hour";
    } else if (op < TRACE_OPS) {
      call_read(&r, t, (struct trace_call){.op = op, .thread = (uint16_t)thread, .time_us = (uint32_t)time_us}, &live);
    } else {
      r.wrong = "a record of an unknown kind";
    }
    if (r.wrong) return r.wrong;
    if (r.at == r.end) return "cut: the last record is missing";
  }
  if (r.wrong) return r.wrong;
  if (records == 0 && r.at == bytes + TRACE_HEADER) return "cut: the last record is missing";
  for (uint64_t i = 0; i < t->blocks; i++) t->owners[i] &= ~kFreed;
  return t->count ? NULL : "no calls";
}
