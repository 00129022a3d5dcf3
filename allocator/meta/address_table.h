// SPDX-License-Identifier: Apache-2.0
//
// A hash table of blocks by address, whose entries are embedded in the caller's records. The caller has the lock.
#ifndef HAKMEM_META_ADDRESS_TABLE_H_
#define HAKMEM_META_ADDRESS_TABLE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_address_entry {
  struct hak_address_entry *next;  // in its bucket
  const void *address;
};

// All zero: empty. Invariant: every entry is in the bucket of its address; `count` of them altogether.
struct hak_address_table {
  struct hak_address_entry **buckets;
  size_t bucket_count;  // a power of two
  uint64_t count;
};

// The link that points at the entry of `address`, or NULL.
struct hak_address_entry **hak_address_find(const struct hak_address_table *table, const void *address);
// After hak_address_reserve.
void hak_address_insert(struct hak_address_table *table, struct hak_address_entry *entry);
// Takes the entry that `link` points at out of the table.
struct hak_address_entry *hak_address_extract(struct hak_address_table *table, struct hak_address_entry **link);
// Makes room for one more: doubles the table where it is full. When no memory can be had the chains grow longer
// instead; false: there is no table at all.
bool hak_address_reserve(struct hak_address_table *table);
// Whether the invariant holds.
bool hak_address_holds(const struct hak_address_table *table);

HAK_C_END

#endif  // HAKMEM_META_ADDRESS_TABLE_H_
