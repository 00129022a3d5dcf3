// SPDX-License-Identifier: Apache-2.0
//
// Whether a program that can move its blocks would empty a slab by it.
//
// A slab returns its memory when its last block is freed, so what is left of a peak may keep many slabs that are nearly
// empty. New blocks come from the fullest slab that has room. So moving the blocks of the sparser slabs fills the
// fuller ones, and the sparser ones become free.
#ifndef HAKMEM_HEAP_MOVE_HINT_H_
#define HAKMEM_HEAP_MOVE_HINT_H_

#include "allocator/heap/heap.h"

HAK_C_BEGIN

// Whether it helps to move `block`, a live block of a slab, to a block that `heap` takes from its slabs. It does if
//   * more than an eighth of the slab is free, and at least as much as of the average slab of the class with room;
//   * as many blocks of the class are free as the slab has, or no slab could become free;
//   * the slab is not the one from which `heap` takes now;
//   * and, for a slab of another heap: `heap` has free blocks, or the slab is less than half full. So it is worth a new
//     slab.
// Each move fills a slab that has room until it is full, and blocks of full slabs do not move. So the moves come to an
// end. Takes constant time. The owner of another slab may change it meanwhile: the answer is a hint.
bool hak_move_helps(const struct hak_heap *heap, const void *block) HAK_REQUIRES(hak_heap_role);

HAK_C_END

#endif  // HAKMEM_HEAP_MOVE_HINT_H_
