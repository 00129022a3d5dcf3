// SPDX-License-Identifier: Apache-2.0
//
// The table of stacks.
#include "allocator/prof/stack_table.h"

#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"

#define BUCKETS HAK_STACKS_MAX

static struct hak_stack_record without_frames;

// The arrays are made for the first stack, and kept.
static struct {
  struct hak_stack_record **records;  // by number; [0] is unused
  uint32_t *buckets;                  // the number of a first stack; 0: there is none
  uint32_t count;                     // of numbers, 0 included
} table HAK_GUARDED_BY(hak_prof_mutex);

// The peak of all stacks together. Each block that makes the sum larger than ever makes a peak of the next number. A
// stack that has not changed since the latest peak had then what it has now; a stack keeps that when it first changes.
static struct {
  double bytes;  // of all stacks, now
  double most;
  uint64_t number;
} peak HAK_GUARDED_BY(hak_prof_mutex);

// The number of the latest mark. As with peaks, a stack keeps what it had then when it first changes.
static uint64_t mark_number HAK_GUARDED_BY(hak_prof_mutex);

// The number of the latest round of shares. A stack that has none in it may still have the one of an earlier round.
static uint64_t round_number HAK_GUARDED_BY(hak_prof_mutex);

static uint64_t hash_of(void *const *frames, uint32_t count) {
  uint64_t hash = count;
  for (uint32_t i = 0; i < count; i++) {
    hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return hash;
}

static bool make_arrays(void) HAK_REQUIRES(hak_prof_mutex) {
  if (table.records != NULL) return true;
  const size_t of_records = HAK_STACKS_MAX * sizeof *table.records;
  struct hak_stack_record **records = hak_meta_alloc(of_records);
  uint32_t *buckets = hak_meta_alloc(BUCKETS * sizeof *buckets);
  if (records == NULL || buckets == NULL) {
    if (records != NULL) hak_meta_free(records, of_records);
    if (buckets != NULL) hak_meta_free(buckets, BUCKETS * sizeof *buckets);
    return false;
  }
  table.records = records;
  table.buckets = buckets;
  table.count = 1;
  return true;
}

static bool is_of(const struct hak_stack_record *record, void *const *frames, uint32_t count) {
  if (record->frames != count) return false;
  for (uint32_t i = 0; i < count; i++) {
    if (record->frame[i] != frames[i]) return false;
  }
  return true;
}

uint32_t hak_stack_number(void *const *frames, uint32_t count) {
  if (count == 0 || count > HAK_STACK_FRAMES_MAX || !make_arrays()) return 0;
  const uint64_t hash = hash_of(frames, count);
  uint32_t *const bucket = &table.buckets[hash % BUCKETS];
  for (uint32_t number = *bucket; number != 0; number = table.records[number]->next) {
    if (table.records[number]->hash == hash && is_of(table.records[number], frames, count)) return number;
  }
  if (table.count == HAK_STACKS_MAX) return 0;
  struct hak_stack_record *record = hak_meta_alloc(sizeof *record + count * sizeof *frames);
  if (record == NULL) return 0;
  record->hash = hash;
  record->next = *bucket;
  record->frames = count;
  hak_bytes_copy(record->frame, frames, count * sizeof *frames);
  table.records[table.count] = record;
  *bucket = table.count;
  return table.count++;
}

struct hak_stack_record *hak_stack_record(uint32_t number) {
  if (number == 0) return &without_frames;
  return number < table.count ? table.records[number] : NULL;
}

// Before the record changes.
static void keep(struct hak_stack_record *record) HAK_REQUIRES(hak_prof_mutex) {
  if (record->marked_in != mark_number) {
    record->marked_in = mark_number;
    record->totals.marked_objects = record->totals.inuse_objects;
    record->totals.marked_bytes = record->totals.inuse_bytes;
  }
  if (record->kept_for == peak.number) return;
  record->kept_for = peak.number;
  record->totals.peak_objects = record->totals.inuse_objects;
  record->totals.peak_bytes = record->totals.inuse_bytes;
}

struct hak_stack_totals hak_stack_totals_of(const struct hak_stack_record *record) {
  struct hak_stack_totals totals = record->totals;
  if (record->kept_for != peak.number) {
    totals.peak_objects = totals.inuse_objects;
    totals.peak_bytes = totals.inuse_bytes;
  }
  if (record->marked_in != mark_number) {
    totals.marked_objects = totals.inuse_objects;
    totals.marked_bytes = totals.inuse_bytes;
  }
  if (record->shared_in != round_number) totals.fragmentation_bytes = 0;
  return totals;
}

void hak_stack_count_in(uint32_t number, double weight, uint64_t size) {
  struct hak_stack_record *record = hak_stack_record(number);
  if (record == NULL) return;  // The table was forgotten since.
  keep(record);
  record->samples++;
  record->totals.alloc_objects += weight;
  record->totals.alloc_bytes += weight * (double)size;
  record->totals.inuse_objects += weight;
  record->totals.inuse_bytes += weight * (double)size;
  peak.bytes += weight * (double)size;
  if (peak.bytes > peak.most) {
    peak.most = peak.bytes;
    peak.number++;
  }
}

// Returns the record; NULL: the table was forgotten since.
static struct hak_stack_record *count_out(uint32_t number, double weight, uint64_t size) HAK_REQUIRES(hak_prof_mutex) {
  struct hak_stack_record *record = hak_stack_record(number);
  if (record == NULL || record->samples == 0) return NULL;
  keep(record);
  record->samples--;
  record->totals.inuse_objects -= weight;
  record->totals.inuse_bytes -= weight * (double)size;
  peak.bytes -= weight * (double)size;
  // What rounding has left over.
  if (record->samples == 0) record->totals.inuse_objects = record->totals.inuse_bytes = 0;
  return record;
}

void hak_stack_count_out(uint32_t number, double weight, uint64_t size) { count_out(number, weight, size); }

void hak_stack_count_freed(uint32_t number, double weight, uint64_t size, uint64_t lived_us) {
  struct hak_stack_record *record = count_out(number, weight, size);
  if (record == NULL) return;
  record->totals.lived_objects += weight;
  record->totals.lived_bytes += weight * (double)size;
  record->totals.lived_us += weight * (double)lived_us;
}

double hak_stack_live_bytes(void) { return peak.bytes; }

HAK_COLD void hak_stack_mark(void) { mark_number++; }

HAK_COLD void hak_stack_begin_shares(void) { round_number++; }

HAK_COLD void hak_stack_add_share(uint32_t number, double bytes) {
  struct hak_stack_record *record = hak_stack_record(number);
  if (record == NULL) return;  // The table was forgotten since.
  if (record->shared_in != round_number) record->totals.fragmentation_bytes = 0;
  record->shared_in = round_number;
  record->totals.fragmentation_bytes += bytes;
}

void hak_stack_table_start_anew(void) {
  hak_bytes_fill(&table, 0, sizeof table);
  hak_bytes_fill(&without_frames, 0, sizeof without_frames);
  hak_bytes_fill(&peak, 0, sizeof peak);
  mark_number = 0;
  round_number = 0;
}
