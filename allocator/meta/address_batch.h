// SPDX-License-Identifier: Apache-2.0
//
// The lowest of many addresses, in order: how a list in any order is read by ascending addresses, a batch at a time,
// although it changes between the batches.
#ifndef HAKMEM_META_ADDRESS_BATCH_H_
#define HAKMEM_META_ADDRESS_BATCH_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_ADDRESS_BATCH 64u

struct hak_address_batch {
  const char *from;  // lower addresses are left out
  uint32_t count;
  char *addresses[HAK_ADDRESS_BATCH];
};

// Offers an address, each at most once.
HAK_INLINE void hak_address_offer(struct hak_address_batch *batch, char *address) {
  if (address < batch->from) return;
  if (batch->count == HAK_ADDRESS_BATCH) {
    if (address > batch->addresses[HAK_ADDRESS_BATCH - 1]) return;
    batch->count--;
  }
  uint32_t place = batch->count++;
  for (; place > 0 && batch->addresses[place - 1] > address; place--) {
    batch->addresses[place] = batch->addresses[place - 1];
  }
  batch->addresses[place] = address;
}

HAK_C_END

#endif  // HAKMEM_META_ADDRESS_BATCH_H_
