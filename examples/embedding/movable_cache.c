// SPDX-License-Identifier: Apache-2.0
#include "movable_cache.h"

#include <hakmem/hakmem.h>
#include <string.h>

static size_t bytes_of(const struct cache_entry *entry) {
  return sizeof *entry + entry->key_bytes + entry->value_bytes;
}

// FNV-1a.
static uint64_t hash_of(const char *key, size_t bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)key[i]) * 0x100000001b3u;
  return hash ^ hash >> 32;
}

// Where the pointer to the entry with the key is, or where it would be.
static struct cache_entry **find(struct cache *cache, const char *key, size_t key_bytes) {
  struct cache_entry **link = &cache->buckets[hash_of(key, key_bytes) & (cache->bucket_count - 1)];
  while (*link != NULL && ((*link)->key_bytes != key_bytes || memcmp((*link)->data, key, key_bytes) != 0)) {
    link = &(*link)->next;
  }
  return link;
}

// ---- The order of use ----------------------------------------------------------------------------

static void take_out(struct cache *cache, struct cache_entry *entry) {
  *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
  *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void put_first(struct cache *cache, struct cache_entry *entry) {
  entry->newer = NULL;
  entry->older = cache->newest;
  *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry;
  cache->newest = entry;
}

// ---- Entries -------------------------------------------------------------------------------------

static void remove_entry(struct cache *cache, struct cache_entry **link) {
  struct cache_entry *entry = *link;
  *link = entry->next;
  take_out(cache, entry);
  cache->items--;
  cache->bytes -= bytes_of(entry);
  hak_free(entry);
}

bool cache_open(struct cache *cache, size_t bucket_count, size_t limit) {
  *cache = (struct cache){.bucket_count = bucket_count, .limit = limit};
  cache->buckets = hak_calloc(bucket_count, sizeof *cache->buckets);
  return cache->buckets != NULL;
}

void cache_close(struct cache *cache) {
  while (cache->oldest != NULL) remove_entry(cache, find(cache, cache->oldest->data, cache->oldest->key_bytes));
  hak_free(cache->buckets);
}

bool cache_set(struct cache *cache, const char *key, const char *value, size_t value_bytes) {
  const size_t key_bytes = strlen(key);
  if (key_bytes > UINT32_MAX || value_bytes > UINT32_MAX) return false;
  const size_t bytes = sizeof(struct cache_entry) + key_bytes + value_bytes;
  if (bytes > cache->limit) return false;
  struct cache_entry *entry = hak_malloc(bytes);
  if (entry == NULL) return false;
  entry->key_bytes = (uint32_t)key_bytes;
  entry->value_bytes = (uint32_t)value_bytes;
  memcpy(entry->data, key, key_bytes);
  memcpy(entry->data + key_bytes, value, value_bytes);
  struct cache_entry **link = find(cache, key, key_bytes);
  if (*link != NULL) remove_entry(cache, link);
  while (cache->bytes + bytes > cache->limit) {
    remove_entry(cache, find(cache, cache->oldest->data, cache->oldest->key_bytes));
  }
  link = find(cache, key, key_bytes);
  entry->next = NULL;
  *link = entry;
  put_first(cache, entry);
  cache->items++;
  cache->bytes += bytes;
  return true;
}

const char *cache_get(struct cache *cache, const char *key, size_t *value_bytes) {
  struct cache_entry *entry = *find(cache, key, strlen(key));
  if (entry == NULL) return NULL;
  take_out(cache, entry);
  put_first(cache, entry);
  *value_bytes = entry->value_bytes;
  return entry->data + entry->key_bytes;
}

bool cache_delete(struct cache *cache, const char *key) {
  struct cache_entry **link = find(cache, key, strlen(key));
  if (*link == NULL) return false;
  remove_entry(cache, link);
  return true;
}

// ---- Defragmentation -----------------------------------------------------------------------------

#define BATCH 64

// Copies the entry to which *link points to another block, and changes all pointers to it.
static bool move_entry(struct cache *cache, struct cache_entry **link) {
  struct cache_entry *entry = *link;
  struct cache_entry *moved = hak_malloc_nocache(bytes_of(entry));
  if (moved == NULL) return false;
  memcpy(moved, entry, bytes_of(entry));
  *link = moved;
  *(moved->newer != NULL ? &moved->newer->older : &cache->newest) = moved;
  *(moved->older != NULL ? &moved->older->newer : &cache->oldest) = moved;
  hak_free_nocache(entry);
  return true;
}

// Of one bucket, BATCH entries at a time.
static void defrag_bucket(struct cache *cache, struct cache_entry **link, struct cache_round *round) {
  while (*link != NULL) {
    void *blocks[BATCH];
    bool move[BATCH];
    size_t count = 0;
    for (struct cache_entry *entry = *link; entry != NULL && count < BATCH; entry = entry->next)
      blocks[count++] = entry;
    hak_should_move(blocks, count, move);
    round->asked += count;
    for (size_t i = 0; i < count; i++, link = &(*link)->next) {
      if (move[i] && move_entry(cache, link)) round->moved++;
    }
  }
}

void cache_defrag(struct cache *cache, size_t entries, struct cache_round *round) {
  if (cache->defrag_bucket == 0) {
    *round = (struct cache_round){.asked = 0};
    hak_thread_flush();  // Blocks in the thread's cache count as live.
  }
  const size_t until = round->asked + entries;
  while (round->asked < until && cache->defrag_bucket < cache->bucket_count) {
    defrag_bucket(cache, &cache->buckets[cache->defrag_bucket++], round);
  }
  round->done = cache->defrag_bucket == cache->bucket_count;
  if (round->done) cache->defrag_bucket = 0;
}
