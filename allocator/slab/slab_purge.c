// SPDX-License-Identifier: Apache-2.0
//
// Decommits pages of a slab in use that hold no block in use.
#include "allocator/slab/slab_purge.h"

#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/slab/ground_split.h"
#include "allocator/slab/slab_purged.h"

// Whether bits first .. last are all set.
static bool all_set(const uint64_t *words, uint32_t first, uint32_t last) {
  for (uint32_t word = first / 64; word <= last / 64; word++) {
    uint64_t want = UINT64_MAX;
    if (word == first / 64) want <<= first % 64;
    if (word == last / 64) want &= UINT64_MAX >> (63 - last % 64);
    if ((words[word] & want) != want) return false;
  }
  return true;
}

// Whether page `number` of the slab holds memory that no block needs.
static bool page_is_free(const struct hak_slab *slab, uint32_t number) {
  const struct hak_slab_page page = hak_slab_page_at(number);
  const uint32_t uncarved = slab->capacity - hak_slab_carved(slab);
  // The header of a block that begins directly behind the page lies in the page.
  uint32_t first = (page.end != 0 ? page.end - (uint32_t)HAK_HEADER_BYTES : 0) / slab->stride;
  uint32_t last = (page.begin - 1) / slab->stride;
  // The bytes in front of the lowest block belong to nobody.
  if (last >= slab->capacity) last = slab->capacity - 1;
  // Never touched, or left by an earlier use of the slab.
  if (last < uncarved || first >= slab->capacity) return !slab->zeroed;
  if (first < uncarved) first = uncarved;
  return all_set(slab->free, first, last);
}

size_t hak_slab_purge(struct hak_slab *slab, uint32_t *runs) {
  const uint32_t page = (uint32_t)hak_os_page_size();
  const uint32_t pages = hak_slab_pages();
  static_assert(HAK_SLAB_SIZE / 4096 <= 16, "a bit for each page");
  char *const start = hak_slab_start(slab);
  size_t bytes = 0;
  uint32_t end;
  for (uint32_t i = slab->index == 0 ? (uint32_t)(HAK_SUPERSLAB_HEAD + page - 1) / page : 0; i < pages; i = end + 1) {
    for (end = i; end < pages && ((slab->purged >> end) & 1) == 0 && page_is_free(slab, end);) end++;
    if (end == i) continue;
    if (*runs == 0) break;
    (*runs)--;
    const size_t run = (size_t)(end - i) * page;
    struct hak_superslab *ss = hak_superslab_of_slab(slab);
    if (hak_ground_is_huge(ss)) hak_ground_split_for(ss, start + (size_t)i * page);
    if (!hak_os_decommit(start + (size_t)i * page, run, HAK_DECOMMIT_DONTNEED)) continue;
    hak_slab_note_purged(slab, i, end - i);
    bytes += run;
  }
  return bytes;
}

bool hak_slab_purge_holds(const struct hak_slab *slab) {
  for (uint32_t left = slab->purged; left != 0; left &= left - 1) {
    if (!page_is_free(slab, (uint32_t)__builtin_ctz(left))) return false;
  }
  return true;
}
