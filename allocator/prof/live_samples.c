// SPDX-License-Identifier: Apache-2.0
//
// The table of live samples: slots in chunks, which never move, and buckets, whose number doubles.
#include "allocator/prof/live_samples.h"

#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"

#define CHUNK_SLOTS 1024u
#define CHUNKS_MAX (HAK_LIVE_SAMPLES_MAX / CHUNK_SLOTS)
#define CHUNK_BYTES (CHUNK_SLOTS * sizeof(struct hak_live_sample))
#define BUCKETS_LEAST 1024u

HAK_ATOMIC(uint32_t) hak_live_samples;

static struct {
  struct hak_live_sample *chunks[CHUNKS_MAX];
  uint32_t slots;  // that were used so far
  uint32_t free;   // a free one of these, counted from 1; 0: there is none
  uint32_t count;  // of live samples
  uint32_t *buckets;
  uint32_t bucket_count;  // a power of two
} table HAK_GUARDED_BY(hak_prof_mutex);

static struct hak_live_sample *slot_at(uint32_t slot) HAK_REQUIRES(hak_prof_mutex) {
  return &table.chunks[slot / CHUNK_SLOTS][slot % CHUNK_SLOTS];
}

static uint32_t *bucket_of(const void *address) HAK_REQUIRES(hak_prof_mutex) {
  const uint64_t hash = ((uint64_t)(uintptr_t)address >> 4) * 0x9E3779B97F4A7C15u;
  return &table.buckets[(hash >> 32) & (table.bucket_count - 1)];
}

static void note_count(void) HAK_REQUIRES(hak_prof_mutex) {
  // Relaxed: see the declaration.
  atomic_store_explicit(&hak_live_samples, table.count, memory_order_relaxed);
}

// Without memory for more buckets the chains grow.
static bool make_buckets(void) HAK_REQUIRES(hak_prof_mutex) {
  if (table.buckets != NULL && table.count < table.bucket_count) return true;
  const uint32_t old_count = table.bucket_count;
  const uint32_t new_count = old_count == 0 ? BUCKETS_LEAST : 2 * old_count;
  uint32_t *const old = table.buckets;
  uint32_t *const made = hak_meta_alloc(new_count * sizeof *made);
  if (made == NULL) return old != NULL;
  table.buckets = made;
  table.bucket_count = new_count;
  for (uint32_t slot = 0; slot < table.slots; slot++) {
    struct hak_live_sample *sample = slot_at(slot);
    if (sample->address == NULL) continue;
    uint32_t *bucket = bucket_of(sample->address);
    sample->next = *bucket;
    *bucket = slot + 1;
  }
  if (old != NULL) hak_meta_free(old, old_count * sizeof *old);
  return true;
}

// A free slot, counted from 1; 0: there is none.
static uint32_t take_slot(void) HAK_REQUIRES(hak_prof_mutex) {
  if (table.free != 0) {
    const uint32_t slot = table.free;
    table.free = slot_at(slot - 1)->next;
    return slot;
  }
  if (table.slots == HAK_LIVE_SAMPLES_MAX) return 0;
  struct hak_live_sample **const chunk = &table.chunks[table.slots / CHUNK_SLOTS];
  if (*chunk == NULL && (*chunk = hak_meta_alloc(CHUNK_BYTES)) == NULL) return 0;
  return ++table.slots;
}

bool hak_live_sample_put(const struct hak_live_sample *sample) {
  if (!make_buckets()) return false;
  const uint32_t slot = take_slot();
  if (slot == 0) return false;
  uint32_t *const bucket = bucket_of(sample->address);
  struct hak_live_sample *const place = slot_at(slot - 1);
  *place = *sample;
  place->next = *bucket;
  *bucket = slot;
  table.count++;
  note_count();
  return true;
}

// The link to the address's slot. NULL: there is none.
static uint32_t *find(const void *address) HAK_REQUIRES(hak_prof_mutex) {
  if (table.buckets == NULL) return NULL;
  for (uint32_t *link = bucket_of(address); *link != 0; link = &slot_at(*link - 1)->next) {
    if (slot_at(*link - 1)->address == address) return link;
  }
  return NULL;
}

bool hak_live_sample_is_there(const void *address) { return find(address) != NULL; }

bool hak_live_sample_take(const void *address, struct hak_live_sample *out) {
  uint32_t *const link = find(address);
  if (link == NULL) return false;
  const uint32_t slot = *link;
  struct hak_live_sample *const sample = slot_at(slot - 1);
  *out = *sample;
  *link = sample->next;
  sample->address = NULL;
  sample->next = table.free;
  table.free = slot;
  table.count--;
  note_count();
  return true;
}

HAK_COLD bool hak_live_sample_find(const void *address, struct hak_live_sample *out) {
  const uint32_t *const link = find(address);
  if (link == NULL) return false;
  *out = *slot_at(*link - 1);
  return true;
}

uint32_t hak_live_sample_read(uint32_t *slot, struct hak_live_sample *out, uint32_t room) {
  uint32_t copied = 0;
  for (; *slot < table.slots && copied < room; ++*slot) {
    const struct hak_live_sample *sample = slot_at(*slot);
    if (sample->address != NULL) out[copied++] = *sample;
  }
  return copied;
}

void hak_live_samples_start_anew(void) {
  hak_bytes_fill(&table, 0, sizeof table);
  note_count();
}
