// SPDX-License-Identifier: Apache-2.0
//
// Compresses a stream to the gzip format (RFC 1952, RFC 1951) without memory of its own and without the C library, so
// that it works in a signal handler and with memory exhausted. It uses the fixed codes and looks for repetitions only
// within blocks of 32 KiB: profiles shrink to about a third, and random bytes grow by at most an eighth.
#ifndef HAKMEM_PPROF_GZIP_H_
#define HAKMEM_PPROF_GZIP_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Takes compressed bytes. Returns 0, or an error number: then it is not called again.
typedef int hak_gzip_sink(void *context, const void *bytes, size_t size);

#define HAK_GZIP_BLOCK 32768u
#define HAK_GZIP_HEADS 8192u

// About 50 KiB, by the caller. Nothing else reads or writes the fields.
struct hak_gzip {
  hak_gzip_sink *sink;
  void *context;
  int error;                       // that of the sink
  uint32_t crc;                    // of all bytes so far
  uint32_t total;                  // how many they are, modulo 2^32
  uint64_t bits;                   // the lowest bit_count of them belong to the next bytes of `output`
  uint32_t bit_count;              // below 8 between calls
  uint32_t in_input;               // bytes of `input` that are not compressed yet
  uint32_t in_output;              // bytes of `output` that the sink has not got yet
  uint16_t heads[HAK_GZIP_HEADS];  // by hash of four bytes: 1 + where they were last in `input`; 0: nowhere
  unsigned char input[HAK_GZIP_BLOCK];
  unsigned char output[1024];
};

void hak_gzip_begin(struct hak_gzip *gzip, hak_gzip_sink *sink, void *context);
void hak_gzip_put(struct hak_gzip *gzip, const void *bytes, size_t size);
// Returns 0 when the sink got everything, otherwise its error number.
int hak_gzip_end(struct hak_gzip *gzip);

HAK_C_END

#endif  // HAKMEM_PPROF_GZIP_H_
