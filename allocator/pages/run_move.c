// SPDX-License-Identifier: Apache-2.0
#include "allocator/pages/run_move.h"

#include "allocator/os/bytes.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/pages/page_map.h"

static size_t size_of(const struct hak_run_parts *parts) { return parts->all[parts->count - 1].end; }

// What the chunk counts as: huge pages, small ones, or neither.
static uint32_t advice_of(const char *address) {
  const struct hak_chunk *chunk = hak_chunk_of(address);
  return chunk->huge + 2u * chunk->small;
}

bool hak_run_find_parts(const struct hak_run *run, struct hak_run_parts *parts) {
  const char *const end = hak_run_end(run);
  parts->count = 0;
  for (const char *at = run->start; at < end; at = hak_chunk_start(at) + HAK_CHUNK_SIZE) {
    const uint32_t advice = advice_of(at);
    if (parts->count == 0 || parts->all[parts->count - 1].advice != advice) {
      if (parts->count == HAK_RUN_PARTS_MAX) return false;
      parts->all[parts->count++].advice = advice;
    }
    const size_t in_chunk = (size_t)(hak_chunk_start(at) + HAK_CHUNK_SIZE - run->start);
    parts->all[parts->count - 1].end = in_chunk < run->size ? in_chunk : run->size;
  }
  return true;
}

size_t hak_run_move_parts(char *from, const struct hak_run_parts *parts, const struct hak_run *target) {
  const size_t size = size_of(parts);
  size_t at = 0;
  for (int i = 0; i < parts->count; i++) {
    const size_t end = parts->all[i].end;
    // What is behind the run's pages becomes a part of the last mapping.
    const size_t room = (end == size ? target->size : end) - at;
    if (!hak_os_move_onto(from + at, end - at, target->start + at, room)) {
      if (at == 0) return 0;
      hak_bytes_copy(target->start + at, from + at, size - at);
      // If the kernel refuses that too, the addresses are lost, but not the memory.
      if (!hak_os_unmap(from + at, size - at)) hak_os_decommit(from + at, size - at, HAK_DECOMMIT_DONTNEED);
      return at;
    }
    at = end;
  }
  return size;
}

// The part with the byte at this offset. What is behind the last one belongs to it.
static int part_at(const struct hak_run_parts *parts, size_t offset) {
  int part = 0;
  while (part < parts->count - 1 && offset >= parts->all[part].end) part++;
  return part;
}

void hak_run_note_advice(const struct hak_run_parts *parts, const struct hak_run *target, size_t moved) {
  const bool all_moved = moved == size_of(parts);
  const struct hak_range whole = hak_whole_chunks(target->start, target->size);
  for (char *at = whole.start; at < whole.start + whole.size; at += HAK_CHUNK_SIZE) {
    const size_t offset = (size_t)(at - target->start);
    const int part = part_at(parts, offset);
    // A chunk of two parts has no advice of its own.
    const bool is_one = part == part_at(parts, offset + HAK_CHUNK_SIZE - 1);
    const bool known = is_one && (all_moved || offset + HAK_CHUNK_SIZE <= moved);
    const uint32_t advice = known ? parts->all[part].advice : 0;
    hak_chunk_of(at)->huge = advice & 1;
    hak_chunk_of(at)->small = advice >> 1 & 1;
  }
}
