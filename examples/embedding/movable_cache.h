// SPDX-License-Identifier: Apache-2.0
//
// The engine of a cache server: keys and values up to a limit of bytes, beyond which the least recently used ones go.
// It knows every pointer to its entries, so it can move them: cache_defrag does that a little at a time, between
// requests, and gives back the memory that a peak has left behind.
#ifndef EMBEDDING_MOVABLE_CACHE_H_
#define EMBEDDING_MOVABLE_CACHE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Key and value are in one block: the value behind the key.
struct cache_entry {
  struct cache_entry *next;   // in its bucket
  struct cache_entry *newer;  // used more recently
  struct cache_entry *older;
  uint32_t key_bytes;
  uint32_t value_bytes;
  char data[];
};

struct cache {
  struct cache_entry **buckets;
  size_t bucket_count;  // a power of two
  struct cache_entry *newest;
  struct cache_entry *oldest;
  size_t items;
  size_t bytes;  // of all entries, as the program asked for them
  size_t limit;
  size_t defrag_bucket;  // where cache_defrag goes on
};

// False: out of memory, or for cache_set: the entry is larger than the limit.
bool cache_open(struct cache *cache, size_t bucket_count, size_t limit);
void cache_close(struct cache *cache);
bool cache_set(struct cache *cache, const char *key, const char *value, size_t value_bytes);
// The value, until the next call; NULL: there is none.
const char *cache_get(struct cache *cache, const char *key, size_t *value_bytes);
bool cache_delete(struct cache *cache, const char *key);

// What a round over all entries did.
struct cache_round {
  size_t asked;
  size_t moved;
  bool done;  // the round is over; the next call begins another one
};
// Asks about the entries of some buckets, at least `entries` if there are as many, and moves those that it should.
void cache_defrag(struct cache *cache, size_t entries, struct cache_round *round);

#endif  // EMBEDDING_MOVABLE_CACHE_H_
