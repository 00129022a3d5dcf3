// SPDX-License-Identifier: Apache-2.0
//
// A hash table that finds a block's record by its address. The entries are part of the caller's records. The caller
// holds the lock that guards the table.
#ifndef HAKMEM_META_ADDRESS_TABLE_H_
#define HAKMEM_META_ADDRESS_TABLE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_address_entry {
  struct hak_address_entry *next;  // the next entry of the bucket
  const void *address;
};

// All zero: empty. Invariant: every entry is in the bucket of its address, and there are `count` entries.
struct hak_address_table {
  struct hak_address_entry **buckets;
  size_t bucket_count;  // a power of two
  uint64_t count;
};

// Returns the link that points at the entry of `address`, or NULL.
struct hak_address_entry **hak_address_find(const struct hak_address_table *table, const void *address);
// Adds an entry. Call hak_address_reserve first.
void hak_address_insert(struct hak_address_table *table, struct hak_address_entry *entry);
// Removes the entry that `link` points at.
struct hak_address_entry *hak_address_extract(struct hak_address_table *table, struct hak_address_entry **link);
// Makes room for one more entry: doubles the table if it is full. Without memory for that, the chains grow longer
// instead. False: there is no table at all.
bool hak_address_reserve(struct hak_address_table *table);
// Whether the invariant holds.
bool hak_address_holds(const struct hak_address_table *table);

HAK_C_END

#endif  // HAKMEM_META_ADDRESS_TABLE_H_
