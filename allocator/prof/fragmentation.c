// SPDX-License-Identifier: Apache-2.0
//
// The shares of live blocks in what lies free beside them.
#include "allocator/prof/fragmentation.h"

#include "allocator/os/bytes.h"
#include "allocator/prof/sampler.h"

#define COPIED 32u

// What samples of each class stand for, and how many they are.
static void weigh(struct hak_fragmentation *work) {
  struct hak_live_sample copies[COPIED];
  uint32_t slot = 0;
  uint32_t count;
  while ((count = hak_sampler_read(&slot, copies, COPIED)) != 0) {
    for (uint32_t i = 0; i < count; i++) {
      work->weights[copies[i].class_id] += copies[i].weight;
      work->samples[copies[i].class_id]++;
    }
  }
}

// By how many blocks the free bytes of a class are divided. In STANDARD sampled blocks do not lie in its slabs, but
// count as if they did. An estimate above the exact number would give away more than there is.
static double blocks_of(const struct hak_fragmentation *work, uint32_t class_id) {
  const struct hak_class_slabs *slabs = &work->slabs[class_id];
  const uint64_t held = slabs->held_blocks > slabs->remote_blocks ? slabs->held_blocks - slabs->remote_blocks : 0;
  const double exact = (double)(held + (HAK_GUARDED ? 0 : work->samples[class_id]));
  return work->weights[class_id] > exact ? work->weights[class_id] : exact;
}

HAK_COLD uint64_t hak_fragmentation_share(struct hak_fragmentation *work) {
  hak_bytes_fill(work, 0, sizeof *work);
  hak_pool_classes(work->slabs);
  weigh(work);
  uint64_t all = 0;
  for (uint32_t class_id = 1; class_id < HAK_CLASS_IDS; class_id++) {
    const struct hak_class_slabs *slabs = &work->slabs[class_id];
    const uint64_t free_bytes = (slabs->free_blocks + slabs->remote_blocks) * hak_class_stride(class_id);
    const double blocks = blocks_of(work, class_id);
    all += free_bytes;
    work->bytes[class_id] = blocks > 0 ? (double)free_bytes / blocks : 0;
  }
  struct hak_live_sample copies[COPIED];
  uint32_t slot = 0;
  uint32_t count;
  hak_sampler_begin_shares();
  while ((count = hak_sampler_read(&slot, copies, COPIED)) != 0) hak_sampler_add_shares(copies, count, work->bytes);
  return all;
}
