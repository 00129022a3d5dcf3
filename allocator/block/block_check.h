// SPDX-License-Identifier: Apache-2.0
//
// Checks of a small block when it changes hands, by its header and its poison. Only in builds with headers: without
// them HAK_BLOCK_CHECKS is 0, hak_block_take_out and hak_block_take_in do nothing, and the other functions are never
// called. A check that fails ends the process.
#ifndef HAKMEM_BLOCK_BLOCK_CHECK_H_
#define HAKMEM_BLOCK_BLOCK_CHECK_H_

#include "allocator/block/block_front.h"
#include "allocator/block/poison.h"
#include "allocator/block/tiny_region_id.h"
#include "allocator/os/base.h"
#include "allocator/os/report.h"

HAK_C_BEGIN

#define HAK_BLOCK_CHECKS (HAK_HEADER != HAK_HEADER_MODE_NONE)

// Ends the process with a message for the block's state: `if_free`, `if_other`, or a corrupted header.
__attribute__((noreturn)) void hak_block_complain(const void *block, enum hak_region_state state, uint32_t class_id,
                                                  const char *if_free, const char *if_other);

// Whether the bytes behind the block are an intact header, that is, no overflow has changed them.
HAK_INLINE bool hak_block_behind_is_intact(const void *block, uint32_t class_id) {
  const char *behind = (const char *)block + hak_class_stride(class_id);
  return HAK_HEADER != HAK_HEADER_MODE_ALWAYS || tiny_region_id_state(behind, class_id) != HAK_REGION_IS_BROKEN;
}

// Whether the block has poison in its last bytes only: it was never handed out, or lost its contents.
HAK_INLINE bool hak_block_is_blank(enum hak_region_state state) {
  return state == HAK_REGION_IS_FRESH || state == HAK_REGION_IS_PURGED;
}
// Ends the process unless such a block still has its poison: its last bytes are the front of the block behind it.
HAK_INLINE void hak_block_require_blank(const void *block, uint32_t class_id) {
  const char *const behind = (const char *)block + hak_class_stride(class_id);
  if (HAK_UNLIKELY(!hak_block_front_is_intact(behind))) hak_fatal("underflow", behind);
}

// Ends the process unless the block can be handed out: it is free or was never handed out, and nobody wrote to it.
// Returns whether it was blank.
HAK_INLINE bool hak_block_require_unused(const void *block, uint32_t class_id) {
  if (HAK_HEADER != HAK_HEADER_MODE_ALWAYS) return false;
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_LIKELY(state == HAK_REGION_IS_FREE)) {
    if (HAK_UNLIKELY(!hak_poison_is_intact(block, hak_class_usable(class_id))))
      hak_fatal_block("write after free", block, hak_class_stride(class_id));
    return false;
  }
  if (HAK_UNLIKELY(!hak_block_is_blank(state))) {
    hak_block_complain(block, state, class_id, "block handed out twice", "block handed out twice");
  }
  hak_block_require_blank(block, class_id);
  return true;
}

// The block counts as never handed out: it was just carved.
HAK_INLINE void hak_block_make_fresh(void *block, uint32_t class_id) {
  tiny_region_id_carve(block, class_id);
  hak_block_front_fill((char *)block + hak_class_stride(class_id));
}

// The block leaves the allocator for the program.
HAK_INLINE void hak_block_check_out(void *block, uint32_t class_id) {
  hak_block_require_unused(block, class_id);
  tiny_region_id_set_live(block, class_id);
}

// Whenever another thread reads the end of a block that is live or blank (heap/freed_check.h), its canary or poison
// must be whole; otherwise that thread reports an overflow. So a thread that changes it first marks the block as free,
// and marks it live last. Acquire and release: on both sides this fence orders the state and the bytes. On x86-64 it is
// only a compiler barrier.
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
// gcc warns that ThreadSanitizer does not see the fence. What it orders is left out of ThreadSanitizer anyway
// (HAK_RACES).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
HAK_INLINE void hak_block_keep_order(void) { __atomic_thread_fence(__ATOMIC_ACQ_REL); }
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
// Between this call and hak_block_end_change the end of the block may change.
HAK_INLINE void hak_block_begin_change(void *block, uint32_t class_id) {
  tiny_region_id_set_free(block, class_id);
  hak_block_keep_order();
}
HAK_INLINE void hak_block_end_change(void *block, uint32_t class_id) {
  hak_block_keep_order();
  tiny_region_id_set_live(block, class_id);
}

// As hak_block_check_out. In guarded builds it begins the change that hak_block_end_change ends, because the block
// still gets a canary (api/guarded_entry.h): a freed block's header says already that it is free.
HAK_INLINE void hak_block_take_out(void *block, uint32_t class_id) {
  if (!HAK_BLOCK_CHECKS) return;
  const bool is_blank = hak_block_require_unused(block, class_id);
  if (!HAK_GUARDED) {
    tiny_region_id_set_live(block, class_id);
  } else if (is_blank) {
    hak_block_begin_change(block, class_id);
  }
}

// Ends the process unless the block is live: with `if_free` when it was freed, with `if_other` when it was never handed
// out.
HAK_INLINE void hak_block_require_live(const void *block, uint32_t class_id, const char *if_free,
                                       const char *if_other) {
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_UNLIKELY(state != HAK_REGION_IS_LIVE)) hak_block_complain(block, state, class_id, if_free, if_other);
}

// The program frees a block that hak_block_require_live found live. Call it once for each free, before the block can be
// handed out again.
HAK_INLINE void hak_block_check_in_live(void *block, uint32_t class_id) {
  if (HAK_UNLIKELY(!hak_block_behind_is_intact(block, class_id)))
    hak_fatal_block("overflow", block, hak_class_stride(class_id));
  hak_block_begin_change(block, class_id);
  hak_poison_fill(block, hak_class_usable(class_id));
}

// The same for a block that has not been checked yet.
HAK_INLINE void hak_block_check_in(void *block, uint32_t class_id) {
  hak_block_require_live(block, class_id, "double free", "invalid free");
  hak_block_check_in_live(block, class_id);
}

// Checks in a freed block. Guarded builds have already found it live (api/guarded_entry.h).
HAK_INLINE void hak_block_take_in(void *block, uint32_t class_id) {
  if (!HAK_BLOCK_CHECKS) return;
  if (HAK_GUARDED) {
    hak_block_check_in_live(block, class_id);
  } else {
    hak_block_check_in(block, class_id);
  }
}

// Ends the process when a block in the allocator's hands, or its header, was written to.
HAK_INLINE void hak_block_require_untouched(const void *block, uint32_t class_id) {
  if (HAK_HEADER != HAK_HEADER_MODE_ALWAYS) return;
  const enum hak_region_state state = tiny_region_id_state(block, class_id);
  if (HAK_UNLIKELY(state == HAK_REGION_IS_BROKEN))
    hak_fatal_block("corrupted header", block, hak_class_stride(class_id));
  if (hak_block_is_blank(state)) hak_block_require_blank(block, class_id);
  if (state == HAK_REGION_IS_FREE && HAK_UNLIKELY(!hak_poison_is_intact(block, hak_class_usable(class_id)))) {
    hak_fatal_block("write after free", block, hak_class_stride(class_id));
  }
}

// A link is about to be written to a block that the program does not hold. In a blank block of the smallest stride the
// link would hit the poison at its end, so such a block becomes free like one that was handed out.
HAK_INLINE void hak_block_before_link(void *block, uint32_t class_id) {
  if (!HAK_POISON_ON || hak_class_stride(class_id) >= HAK_NEXTPTR_BYTES + HAK_MIN_ALIGN) return;
  if (!hak_block_is_blank(tiny_region_id_state(block, class_id))) return;
  hak_block_begin_change(block, class_id);
  hak_poison_fill(block, hak_class_usable(class_id));
}

// The program passes the block as its own, to realloc or to ask for its usable size.
HAK_INLINE void hak_block_check_live(const void *block, uint32_t class_id) {
  hak_block_require_live(block, class_id, "invalid pointer", "invalid pointer");
}

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_CHECK_H_
