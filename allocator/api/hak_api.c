// SPDX-License-Identifier: Apache-2.0
//
// The prefixed interface; include/hakmem/hakmem.h documents it.
#include <hakmem/hakmem.h>

#include "allocator/api/entry.h"
#include "allocator/api/move_hints.h"
#include "allocator/api/process.h"
#include "allocator/api/release.h"
#include "allocator/api/resize.h"
#include "allocator/api/sized.h"
#include "allocator/api/uncached.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/gate/gate_row.h"
#include "allocator/observe/heap_walk.h"
#include "allocator/observe/owns.h"
#include "allocator/observe/pressure.h"
#include "allocator/observe/statistics.h"
#include "allocator/observe/verify.h"
#include "allocator/os/bytes.h"
#include "allocator/os/report.h"
#include "allocator/policy/memory_limit.h"

void *hak_malloc(size_t size) { return hak_entry_malloc(size); }
void *hak_calloc(size_t count, size_t size) { return hak_entry_calloc(count, size); }
void *hak_zalloc(size_t size) { return hak_entry_zalloc(size); }
void *hak_realloc(void *ptr, size_t size) { return hak_entry_realloc(ptr, size); }
void *hak_reallocarray(void *ptr, size_t count, size_t size) { return hak_entry_reallocarray(ptr, count, size); }
void hak_free(void *ptr) { hak_entry_free(ptr); }
void hak_free_sized(void *ptr, size_t size) { hak_entry_free_sized(ptr, size); }
void hak_free_aligned_sized(void *ptr, size_t alignment, size_t size) {
  hak_entry_free_aligned_sized(ptr, alignment, size);
}
void *hak_aligned_alloc(size_t alignment, size_t size) { return hak_entry_aligned_alloc(alignment, size); }
void *hak_aligned_calloc(size_t alignment, size_t count, size_t size) {
  return hak_entry_aligned_calloc(alignment, count, size);
}
void *hak_aligned_realloc(void *ptr, size_t alignment, size_t size) {
  return hak_entry_aligned_realloc(ptr, alignment, size);
}
void *hak_memalign(size_t alignment, size_t size) { return hak_entry_memalign(alignment, size); }
int hak_posix_memalign(void **out, size_t alignment, size_t size) {
  return hak_entry_posix_memalign(out, alignment, size);
}

size_t hak_usable_size(const void *ptr) { return hak_entry_usable(ptr); }

size_t hak_good_size(size_t size) {
  if (size > PTRDIFF_MAX) return 0;
  return hak_entry_good_size(size);
}

void *hak_realloc_in_place(void *ptr, size_t size) {
  if (ptr == NULL || size > PTRDIFF_MAX) return NULL;
  if (HAK_GUARDED) return hak_guarded_realloc_in_place(ptr, size);
  const size_t usable = hak_entry_usable(ptr);
  if (usable > HAK_TINY_MAX && size > HAK_TINY_MAX) {
    if (hak_resize_large(ptr, usable, size, false, __builtin_return_address(0)) != NULL) return ptr;
  }
  return size <= usable ? ptr : NULL;
}

bool hak_owns(const void *ptr) { return hak_is_block(ptr); }

size_t hak_should_move(void *const *blocks, size_t count, bool *move) { return hak_move_hints(blocks, count, move); }
void *hak_malloc_nocache(size_t size) {
  return HAK_GUARDED ? hak_guarded_malloc_nocache(size) : hak_uncached_malloc(size);
}
void hak_free_nocache(void *ptr) {
  if (HAK_GUARDED) {
    hak_guarded_free_nocache(ptr);
  } else {
    hak_uncached_free(ptr);
  }
}

hak_output hak_set_output(hak_output output) { return hak_line_set_output(output); }

void hak_thread_flush(void) { hak_release_thread(); }
size_t hak_trim(size_t keep_bytes) { return hak_release_all(keep_bytes); }

const char *hak_version(void) { return hak_gate_build_name(); }

int hak_stats_get(hak_stats *stats) {
  if (stats == NULL || stats->version == 0) return EINVAL;
  hak_statistics_gather(stats);
  return 0;
}

const char *hak_config_get(const char *name, const char **origin) {
  if (name == NULL) return NULL;
  hak_thread_heap();  // This may be the process's first call.
  return hak_gate_get(name, origin);
}

int hak_config_set(const char *name, const char *value) {
  if (name == NULL || value == NULL) return EINVAL;
  const int error = hak_process_configure(name, value);
  // What is free beyond a lower soft limit is returned now: the program may make no more calls that would do it.
  const bool soft = !HAK_FAST && error == 0 && hak_text_is(name, hak_gates[HAK_GATE_SOFT_LIMIT].name);
  if (soft && hak_limit_is_beyond_setting()) hak_release_all(0);
  return error;
}

int hak_pressure_set(void (*callback)(const hak_pressure *pressure, void *context), void *context) {
  if (HAK_FAST) return ENOTSUP;
  hak_pressure_listen(callback, context);
  return 0;
}

bool hak_heap_verify(void) {
  const char *fault = hak_verify(hak_thread_heap());
  if (fault == NULL) return true;
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_text(&line, "hakmem: heap is inconsistent: ");
  hak_line_text(&line, fault);
  hak_line_write(&line);
  return false;
}

size_t hak_heap_visit(bool (*visit)(const hak_block *block, void *context), void *context) {
  return hak_walk(visit, context);
}
