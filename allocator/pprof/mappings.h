// SPDX-License-Identifier: Apache-2.0
//
// The files whose code is mapped into the process, with their build-ids: from /proc/self/maps, and from the ELF notes
// in memory. It asks the kernel only, not the dynamic linker, whose lock may be held. Memory is read through
// /proc/self/mem, so that a mapping that ends, or a file that was cut, is an error and no signal.
#ifndef HAKMEM_PPROF_MAPPINGS_H_
#define HAKMEM_PPROF_MAPPINGS_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// A build-id of up to 64 bytes in hexadecimal, and a NUL.
#define HAK_BUILD_ID_TEXT 129u

struct hak_mapping {
  uintptr_t start, limit;  // its addresses; `limit` is the first one behind it
  uint64_t offset;         // in the file
  const char *file;        // the kernel's name, without " (deleted)"; "[vdso]" for the kernel's own code
  const char *build_id;    // "": none was found
};

typedef void hak_mapping_visit(const struct hak_mapping *mapping, void *context);

// About 9 KiB, by the caller. Nothing else reads or writes the fields.
struct hak_mappings {
  hak_mapping_visit *visit;
  void *context;
  int memory;        // /proc/self/mem, or negative: then there are no build-ids
  bool is_too_long;  // the line does not fit and is left out
  uint32_t in_line;  // bytes of `line`
  uintptr_t base;    // where the first page of the file below is mapped; 0: nowhere
  uint64_t device, inode;
  char line[4096 + 256];  // a path's greatest length, and what stands before it
  char build_id[HAK_BUILD_ID_TEXT];
  unsigned char room[4096];  // of a file: its header, its program headers, its notes
  char part[512];            // of the list
};

// Calls `visit` for each executable mapping of a file, by ascending addresses. Returns false when the list cannot be
// read. Async-signal-safe; allocates nothing; preserves errno.
bool hak_mappings_read(struct hak_mappings *mappings, hak_mapping_visit *visit, void *context);

// The same in steps, for tests: `memory` is a descriptor whose offsets are addresses, or -1; the text of the list may
// come in any parts.
void hak_mappings_begin(struct hak_mappings *mappings, hak_mapping_visit *visit, void *context, int memory);
void hak_mappings_feed(struct hak_mappings *mappings, const char *text, size_t size);

HAK_C_END

#endif  // HAKMEM_PPROF_MAPPINGS_H_
