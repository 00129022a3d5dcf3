// SPDX-License-Identifier: Apache-2.0
//
// The records of superslabs, in the head or apart from it, and the table that finds them.
#include "allocator/slab/superslab_records.h"

#include "allocator/meta/meta.h"
#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/slab/slab_map.h"

// The table is made writable in pieces: 64 KiB of it for 16 GiB of the window.
#define PIECE ((size_t)64 * 1024)
#define TABLE_BYTES ((HAK_WINDOW_SIZE >> HAK_SUPERSLAB_SHIFT) * sizeof(void *))
#define PIECES (TABLE_BYTES / PIECE)

// Bit i % 64 of word i / 64: piece i is writable. Under the pool's lock.
static uint64_t writable[(PIECES + 63) / 64];

void hak_superslab_records_init(void) {
  if (!HAK_HARDENED || !hak_slab_map_is_flat()) return;
  void *const table = hak_os_reserve(TABLE_BYTES);
  if (table != NULL) hak_os_leave_out_of_core(table, TABLE_BYTES);
  hak_superslab_table = table;
}

bool hak_superslab_records_apart(void) { return hak_superslab_table != NULL; }

// The table's entry for the memory, made writable; NULL: out of memory, or outside the window.
static struct hak_superslab **entry_for(const void *memory) {
  const uintptr_t granule = hak_slab_map_granule(memory);
  if (!hak_slab_map_covers(granule)) return NULL;
  struct hak_superslab **const entry =
      (struct hak_superslab **)(uintptr_t)&hak_superslab_table[granule / HAK_SLABS_PER_SUPERSLAB];
  const size_t offset = (size_t)((char *)entry - (const char *)hak_superslab_table);
  const size_t piece = offset / PIECE;
  if (((writable[piece / 64] >> (piece % 64)) & 1) == 0) {
    if (!hak_os_commit((char *)entry - offset % PIECE, PIECE)) return NULL;
    writable[piece / 64] |= (uint64_t)1 << (piece % 64);
  }
  return entry;
}

static struct hak_superslab *make_apart(void *memory) {
  struct hak_superslab **const entry = entry_for(memory);
  struct hak_superslab *ss = entry != NULL ? hak_meta_alloc(sizeof *ss) : NULL;
  if (ss == NULL) return NULL;
  ss->memory = memory;
  *entry = ss;
  return ss;
}

struct hak_superslab *hak_superslab_records_make(void *memory) {
  if (!HAK_HARDENED) return memory;
  struct hak_superslab *ss = hak_superslab_table != NULL ? make_apart(memory) : NULL;
  if (ss == NULL) ss = memory;
  for (uint32_t i = 0; i < HAK_SLABS_PER_SUPERSLAB; i++) ss->slabs[i].index = (uint8_t)i;
  return ss;
}

void hak_superslab_records_hide(struct hak_superslab *ss) {
  if (hak_superslab_is_apart(ss)) *entry_for(ss->memory) = NULL;
}

void hak_superslab_records_show(struct hak_superslab *ss) {
  if (hak_superslab_is_apart(ss)) *entry_for(ss->memory) = ss;
}

void hak_superslab_records_drop(struct hak_superslab *ss) { hak_meta_free(ss, sizeof *ss); }
