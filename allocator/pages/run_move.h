// SPDX-License-Identifier: Apache-2.0
//
// Has the kernel move the pages of a run. It moves those of one of its mappings at a time, and advice about huge pages,
// which differs from chunk to chunk, makes several mappings of a run.
#ifndef HAKMEM_PAGES_RUN_MOVE_H_
#define HAKMEM_PAGES_RUN_MOVE_H_

#include "allocator/os/base.h"
#include "allocator/pages/mapping_lock.h"
#include "allocator/pages/run.h"

HAK_C_BEGIN

// The parts of a run with the same advice. A run of more parts is not moved.
#define HAK_RUN_PARTS_MAX 16
struct hak_run_parts {
  int count;
  struct {
    size_t end;       // bytes from the start of the run
    uint32_t advice;  // as of its chunks
  } all[HAK_RUN_PARTS_MAX];
};

// False: the run has too many parts. Before its records are removed.
bool hak_run_find_parts(const struct hak_run *run, struct hak_run_parts *parts) HAK_REQUIRES(hak_mapping_mutex);
// Moves what the addresses `from` hold to the target, which is no smaller. Needs no lock: both are in transit. If a
// part does not move, it is copied, and so is all behind it. Returns how many bytes moved; 0: nothing changed, and all
// of the target reads as zero.
size_t hak_run_move_parts(char *from, const struct hak_run_parts *parts, const struct hak_run *target);
// Afterwards: the first `moved` bytes of the target have the advice of the parts.
void hak_run_note_advice(const struct hak_run_parts *parts, const struct hak_run *target, size_t moved)
    HAK_REQUIRES(hak_mapping_mutex);

HAK_C_END

#endif  // HAKMEM_PAGES_RUN_MOVE_H_
