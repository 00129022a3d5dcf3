// SPDX-License-Identifier: Apache-2.0
//
// Fills a cache, lets three quarters of the entries expire, and serves requests: first as it is, then with a step of
// defragmentation after every few requests. The memory that the process holds beyond its entries must fall at least by
// half, and every value must be intact.
#include "movable_cache.h"

#include <hakmem/hakmem.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ITEMS 200000u
#define KEEPS(item) (random_of(item) % 4 == 0)

// A number that looks random, the same for the same item.
static uint64_t random_of(uint64_t item) {
  uint64_t x = (item + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  return x ^ x >> 31;
}

static void key_of(uint64_t item, char key[32]) { snprintf(key, 32, "item:%" PRIu64, item); }

// The value's bytes are made from the item's number.
static size_t value_of(uint64_t item, char value[512]) {
  const uint64_t word = random_of(item ^ 0x76616c7565u);
  for (size_t i = 0; i < 512; i += sizeof word) memcpy(value + i, &word, sizeof word);
  return 50 + word % 400;
}

static uint64_t resident_bytes(void) {
  hak_trim(0);
  uint64_t total = 0;
  uint64_t resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%" SCNu64 " %" SCNu64, &total, &resident) != 2) resident = 0;
  if (file != NULL) fclose(file);
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

// A request for each item. Returns how many answers are wrong.
static unsigned serve(struct cache *cache, bool defrag) {
  unsigned wrong = 0;
  struct cache_round round = {0};
  size_t moved = 0;
  for (uint64_t item = 0; item < ITEMS; item++) {
    char key[32];
    char value[512];
    size_t found_bytes = 0;
    key_of(item, key);
    const size_t bytes = value_of(item, value);
    const char *found = cache_get(cache, key, &found_bytes);
    if ((found != NULL) != KEEPS(item)) wrong++;
    if (found != NULL && (found_bytes != bytes || memcmp(found, value, bytes) != 0)) wrong++;
    if (defrag && item % 10 == 0) cache_defrag(cache, 16, &round);
    if (round.done) {
      printf("  a round over %zu entries moved %zu\n", round.asked, round.moved);
      moved += round.moved;
      defrag = round.moved != 0;
      round.done = false;
    }
  }
  if (moved > 2 * cache->items) wrong++;
  return wrong;
}

int main(void) {
  struct cache cache;
  unsigned wrong = 0;
  if (!cache_open(&cache, 1u << 16, (size_t)1 << 30)) return 1;
  memset(cache.buckets, 0, cache.bucket_count * sizeof *cache.buckets);  // So that its pages are there.
  const uint64_t at_start = resident_bytes();
  char key[32];
  char value[512];
  for (uint64_t item = 0; item < ITEMS; item++) {
    key_of(item, key);
    if (!cache_set(&cache, key, value, value_of(item, value))) wrong++;
  }
  printf("full:       %zu entries of %zu KiB, %" PRIu64 " KiB resident\n", cache.items, cache.bytes >> 10,
         resident_bytes() >> 10);
  for (uint64_t item = 0; item < ITEMS; item++) {
    key_of(item, key);
    if (!KEEPS(item) && !cache_delete(&cache, key)) wrong++;
  }
  wrong += serve(&cache, false);
  const uint64_t entries = at_start + cache.bytes;
  const uint64_t fragmented = resident_bytes();
  printf("fragmented: %zu entries of %zu KiB, %" PRIu64 " KiB resident\n", cache.items, cache.bytes >> 10,
         fragmented >> 10);
  wrong += serve(&cache, true);
  const uint64_t moved = resident_bytes();
  printf("moved:      %zu entries of %zu KiB, %" PRIu64 " KiB resident\n", cache.items, cache.bytes >> 10, moved >> 10);
  wrong += serve(&cache, false);
  if (!hak_heap_verify()) wrong++;
  cache_close(&cache);
  if (wrong != 0) printf("FAILED: %u answers are wrong\n", wrong);
  const bool falls = at_start != 0 && fragmented > entries + entries / 4 &&
                     (moved < entries || moved - entries <= (fragmented - entries) / 2);
  if (!falls) printf("FAILED: the excess over %" PRIu64 " KiB has not fallen by half\n", entries >> 10);
  return wrong == 0 && falls ? 0 : 1;
}
