// SPDX-License-Identifier: Apache-2.0
//
// A hash table with chains, which doubles when it is full.
#include "allocator/meta/address_table.h"

#include "allocator/meta/meta.h"

#define FIRST_BUCKETS 64u

static struct hak_address_entry **bucket_of(const struct hak_address_table *table, const void *address) {
  const uint64_t hash = ((uint64_t)(uintptr_t)address >> 12) * 0x9E3779B97F4A7C15u;
  return &table->buckets[hash >> 32 & (table->bucket_count - 1)];
}

struct hak_address_entry **hak_address_find(const struct hak_address_table *table, const void *address) {
  if (table->buckets == NULL) return NULL;
  struct hak_address_entry **link = bucket_of(table, address);
  while (*link != NULL && (*link)->address != address) link = &(*link)->next;
  return *link != NULL ? link : NULL;
}

static void link_in(struct hak_address_table *table, struct hak_address_entry *entry) {
  struct hak_address_entry **bucket = bucket_of(table, entry->address);
  entry->next = *bucket;
  *bucket = entry;
}

void hak_address_insert(struct hak_address_table *table, struct hak_address_entry *entry) {
  link_in(table, entry);
  table->count++;
}

struct hak_address_entry *hak_address_extract(struct hak_address_table *table, struct hak_address_entry **link) {
  struct hak_address_entry *entry = *link;
  *link = entry->next;
  table->count--;
  return entry;
}

bool hak_address_reserve(struct hak_address_table *table) {
  if (table->buckets != NULL && table->count < table->bucket_count) return true;
  const size_t old_count = table->buckets != NULL ? table->bucket_count : 0;
  const size_t count = old_count != 0 ? 2 * old_count : FIRST_BUCKETS;
  struct hak_address_entry **buckets = hak_meta_alloc(count * sizeof *buckets);
  if (buckets == NULL) return table->buckets != NULL;
  struct hak_address_entry **const old = table->buckets;
  table->buckets = buckets;
  table->bucket_count = count;
  for (size_t i = 0; i < old_count; i++) {
    struct hak_address_entry *next;
    for (struct hak_address_entry *entry = old[i]; entry != NULL; entry = next) {
      next = entry->next;
      link_in(table, entry);
    }
  }
  if (old != NULL) hak_meta_free(old, old_count * sizeof *old);
  return true;
}

bool hak_address_holds(const struct hak_address_table *table) {
  uint64_t count = 0;
  for (size_t i = 0; table->buckets != NULL && i < table->bucket_count; i++) {
    for (const struct hak_address_entry *entry = table->buckets[i]; entry != NULL; entry = entry->next) {
      if (bucket_of(table, entry->address) != &table->buckets[i]) return false;
      count++;
    }
  }
  return count == table->count;
}
