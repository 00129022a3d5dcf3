// SPDX-License-Identifier: Apache-2.0
//
// The writer of profiles (pprof/profile.h) with its compressor, and the reader of mappings (pprof/mappings.h): what was
// written is unpacked and read by code of this engine, and compared with what was passed in.
//
// An input is a sequence of records of eight bytes. Byte 0 of the first one is the number of values and whether the
// sink fails; of each record it selects a stack, a mapping, a comment, or some characters of a list of mappings.
#ifndef HAKMEM_FUZZ_PPROF_ENGINE_H_
#define HAKMEM_FUZZ_PPROF_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/pprof/mappings.h"
#include "allocator/pprof/profile.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct PprofCalls {
  void (*begin)(hak_pprof *pprof, hak_gzip_sink *sink, void *context, const hak_pprof_about *about) = hak_pprof_begin;
  void (*map)(hak_pprof *pprof, const hak_mapping *mapping) = hak_pprof_add_mapping;
  void (*add)(hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) = hak_pprof_add;
  void (*comment)(hak_pprof *pprof, const char *text) = hak_pprof_comment;
  int (*end)(hak_pprof *pprof) = hak_pprof_end;
  void (*feed)(hak_mappings *mappings, const char *text, size_t size) = hak_mappings_feed;
};

void RunPprofInput(const PprofCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_PPROF_ENGINE_H_
