// SPDX-License-Identifier: Apache-2.0
//
// Reports blocks that are released by a call of another kind.
#include "allocator/api/mismatch.h"

#include "allocator/os/atomic.h"
#include "allocator/os/report.h"
#include "allocator/policy/config.h"

#define RELEASES (HAK_BY_REALLOC + 1)
#define TEXTS(kind)                                                                                                 \
  {kind " block freed by free",           kind " block freed by delete",           kind " block freed by delete[]", \
   kind " block freed by aligned delete", kind " block freed by aligned delete[]", kind " block passed to realloc"}
static const char *const texts[HAK_KIND_COUNT][RELEASES] = {
    TEXTS("malloc"), TEXTS("new"), TEXTS("new[]"), TEXTS("aligned new"), TEXTS("aligned new[]"),
};

// All of hakmem's blocks come from one heap, so a mismatch alone does no harm. Whoever runs OBSERVE looks for bugs.
// HARDENED protects programs, among them those that mix the calls and have always worked: two C++ runtimes in a process
// are enough, if one of them allocates and the other frees.
static enum hak_mismatch_action action(void) {
  const enum hak_mismatch_action chosen = HAK_SETTING(mismatch);
  if (chosen != HAK_MISMATCH_AUTO) return chosen;
  return HAK_HARDENED ? HAK_MISMATCH_WARN : HAK_MISMATCH_FATAL;
}

// Whether the process writes about this pair of calls for the first time.
static bool is_first(enum hak_kind kind, enum hak_release by) {
  static HAK_ATOMIC(uint32_t) told;
  static_assert(HAK_KIND_COUNT * RELEASES <= 32, "a bit for each pair");
  const uint32_t bit = UINT32_C(1) << (kind * RELEASES + by);
  // Relaxed: the bits stand for themselves.
  return (atomic_fetch_or_explicit(&told, bit, memory_order_relaxed) & bit) == 0;
}

HAK_COLD void hak_mismatch(const void *block, size_t bytes, enum hak_kind kind, enum hak_release by) {
  if (!HAK_GUARDED) return;
  const enum hak_mismatch_action chosen = action();
  if (chosen == HAK_MISMATCH_OFF) return;
  const char *const what = texts[kind][by];
  if (chosen == HAK_MISMATCH_FATAL) hak_fatal_block(what, block, bytes);
  if (!is_first(kind, by)) return;
  struct hak_line line;
  hak_line_begin(&line);
  hak_line_misuse(&line, what, block, bytes);
  hak_line_process(&line);
  hak_line_text(&line, "; not told again (HAKMEM_MISMATCH)");
  hak_line_offer(&line);
}
