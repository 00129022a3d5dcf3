// SPDX-License-Identifier: Apache-2.0
//
// The cache of medium blocks.
#include "allocator/heap/medium_cache.h"

#include "allocator/heap/idle_cache_state.h"
#include "allocator/meta/meta.h"
#include "allocator/os/bytes.h"
#include "allocator/os/report.h"
#include "allocator/os/single_thread.h"
#include "allocator/pages/page_heap.h"
#include "allocator/policy/cache_total.h"
#include "allocator/policy/config.h"

// The slots of one thread together hold at most BYTES_MAX, as long as few threads have such a cache, so that all of
// them together hold at most 32 MiB; with many threads BYTES_LEAST. The bound on its caches of small blocks applies
// too.
#define BYTES_MAX ((uint64_t)4 * 1024 * 1024)
#define BYTES_LEAST ((uint64_t)1024 * 1024)

// Threads that have such a cache. Relaxed: a hint.
static HAK_ATOMIC(uint32_t) caches;

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

// What each of them may hold. Kept beside the count, so that a free does not compute it. Relaxed: stands for itself.
static HAK_ATOMIC(uint64_t) share = BYTES_MAX;

static uint64_t bytes_bound(void) {
  return lesser(HAK_SETTING(thread_cache_bytes), atomic_load_explicit(&share, memory_order_relaxed));
}

void hak_medium_obey_setting(void) {
  uint32_t threads;
  uint64_t total;
  do {
    threads = atomic_load_explicit(&caches, memory_order_relaxed);
    total = HAK_FAST ? 0 : HAK_SETTING(total_thread_cache_bytes);
    const uint64_t by_count = threads <= 8 ? BYTES_MAX : threads <= 16 ? BYTES_MAX / 2 : BYTES_LEAST;
    // Acquire and release: two threads that come here at once meet in this word. The later one sees what the earlier
    // one had read, or something newer, so the last value that is stored belongs to the last count and setting.
    atomic_exchange_explicit(&share, lesser(by_count, hak_cache_total_large_share(total, threads)),
                             memory_order_acq_rel);
    // Relaxed: ordered by the exchange.
  } while (threads != atomic_load_explicit(&caches, memory_order_relaxed) ||
           (!HAK_FAST && total != HAK_SETTING(total_thread_cache_bytes)));
}

// Relaxed: called by the thread itself, or under the heap's lock.
static struct hak_medium_cache *cache_of(const struct hak_heap *heap) {
  return atomic_load_explicit(&heap->medium, memory_order_relaxed);
}

// Empties the slot and returns its block.
HAK_INLINE void *exchange(HAK_ATOMIC(void *) * slot) {
  if (hak_is_single_threaded()) {
    // Relaxed: there is no other thread. A locked instruction would be a third of a malloc and free.
    void *block = atomic_load_explicit(slot, memory_order_relaxed);
    atomic_store_explicit(slot, NULL, memory_order_relaxed);
    return block;
  }
  // Acquire: the caller sees what the thread that freed the block wrote before. Release is stronger than needed.
  return atomic_exchange_explicit(slot, NULL, memory_order_acq_rel);
}

#define CACHED_BIT ((uint64_t)HAK_TAG_CACHED << HAK_ENTRY_TAG_SHIFT)

// Marks a block that leaves a cache as live. Called by the block's holder.
HAK_INLINE void set_live(void *block) {
  HAK_ATOMIC(uint64_t) *entry = hak_page_entry_of_block(block);
  // Relaxed: only the block's holder changes the tag, and the run stays the same while the block is live.
  atomic_store_explicit(entry, atomic_load_explicit(entry, memory_order_relaxed) & ~CACHED_BIT, memory_order_relaxed);
}

// Blocks that were in slots, on their way to the page heap.
struct leaving {
  uint32_t count;
  void *blocks[16];
};

static void give_back(struct leaving *leaving) {
  if (leaving->count == 0) return;
  void *wrong = hak_page_heap_give_some(leaving->blocks, leaving->count);
  if (wrong != NULL) hak_fatal("corrupted cache of large blocks", wrong);
  leaving->count = 0;
}

// Empties the first `count` slots. Returns how many blocks were in them.
static uint32_t empty_slots(HAK_ATOMIC(void *) * slots, uint32_t count, struct leaving *leaving) {
  uint32_t emptied = 0;
  for (uint32_t i = 0; i < count; i++) {
    // Relaxed: the exchange checks again.
    if (atomic_load_explicit(&slots[i], memory_order_relaxed) == NULL) continue;
    void *block = exchange(&slots[i]);
    if (block == NULL) continue;
    set_live(block);
    leaving->blocks[leaving->count++] = block;
    if (leaving->count == sizeof leaving->blocks / sizeof *leaving->blocks) give_back(leaving);
    emptied++;
  }
  return emptied;
}

static uint32_t empty_all(struct hak_medium_cache *cache) {
  struct leaving leaving;
  leaving.count = 0;
  uint32_t emptied = 0;
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    emptied += empty_slots(cache->bins[class_id].slots, cache->bins[class_id].room, &leaving);
  }
  give_back(&leaving);
  return emptied;
}

// Takes the block of the last slot; NULL: another thread has taken it.
HAK_INLINE void *take_last(struct hak_medium_cache *cache, struct hak_medium_bin *bin) {
  cache->bytes -= bin->bytes;
  return exchange(&bin->slots[--bin->used]);
}

static HAK_COLD void *take_older(struct hak_medium_cache *cache, struct hak_medium_bin *bin) {
  void *block = NULL;
  while (block == NULL && bin->used != 0) block = take_last(cache, bin);
  if (block != NULL) set_live(block);
  return block;
}

void *hak_medium_take(struct hak_heap *heap, size_t size) {
  struct hak_medium_cache *cache = cache_of(heap);
  if (HAK_UNLIKELY(cache == NULL)) return NULL;
  struct hak_medium_bin *bin = &cache->bins[hak_medium_class(size)];
  if (HAK_UNLIKELY(bin->used == 0)) return NULL;
  void *block = take_last(cache, bin);
  if (HAK_UNLIKELY(block == NULL)) return take_older(cache, bin);
  set_live(block);
  return block;
}

static HAK_COLD struct hak_medium_cache *attach(struct hak_heap *heap) {
  struct hak_medium_cache *cache = hak_meta_alloc(sizeof *cache);
  if (cache == NULL) return NULL;
  HAK_ATOMIC(void *) *slots = cache->slots;
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    cache->bins[class_id] = (struct hak_medium_bin){
        .slots = slots, .bytes = (uint32_t)hak_medium_bytes(class_id), .room = (uint16_t)hak_medium_slots(class_id)};
    slots += hak_medium_slots(class_id);
  }
  atomic_fetch_add_explicit(&caches, 1, memory_order_relaxed);
  hak_medium_obey_setting();
  hak_heap_enter(heap);
  // Release: see hak_medium_count.
  atomic_store_explicit(&heap->medium, cache, memory_order_release);
  hak_heap_leave(heap);
  return cache;
}

// Makes room for a block of `bytes` bytes, and empties at least half of the cache: of its classes those that have not
// been emptied for longest. False: the block is larger than the bound.
static HAK_COLD bool make_room(struct hak_medium_cache *cache, size_t bytes) {
  const uint64_t bound = bytes_bound();
  if (bytes > bound) return false;
  struct leaving leaving;
  leaving.count = 0;
  const uint64_t keep = lesser(bound / 2, bound - bytes);
  // Ends: cache->bytes is the sum over all slots that are in use.
  while (cache->bytes > keep) {
    struct hak_medium_bin *bin = &cache->bins[cache->next_emptied];
    cache->next_emptied = (cache->next_emptied + 1) % HAK_MEDIUM_COUNT;
    if (bin->used == 0) continue;
    empty_slots(bin->slots, bin->used, &leaving);
    cache->bytes -= (uint64_t)bin->used * bin->bytes;
    bin->used = 0;
  }
  give_back(&leaving);
  return true;
}

// Every slot of the class may hold a block. The older half of the blocks is returned and the newer ones move down, so
// that the newest is taken first.
static HAK_COLD void make_slots(struct hak_medium_cache *cache, struct hak_medium_bin *bin) {
  const uint32_t half = bin->room / 2u;
  cache->bytes -= (uint64_t)half * bin->bytes;
  struct leaving leaving;
  leaving.count = 0;
  empty_slots(bin->slots, half, &leaving);
  give_back(&leaving);
  for (uint32_t i = half; i < 2 * half; i++) {
    void *block = exchange(&bin->slots[i]);
    // Release: pairs with the exchange of another thread.
    atomic_store_explicit(&bin->slots[i - half], block, memory_order_release);
  }
  bin->used = (uint16_t)half;
}

// Puts the block, whose page has this entry, into the next slot.
HAK_INLINE void put(struct hak_medium_cache *cache, struct hak_medium_bin *bin, void *block,
                    HAK_ATOMIC(uint64_t) * entry, uint64_t value) {
  cache->bytes += bin->bytes;
  // Relaxed: a hint; only the owner writes it.
  atomic_store_explicit(&cache->given, atomic_load_explicit(&cache->given, memory_order_relaxed) + 1,
                        memory_order_relaxed);
  // Relaxed: as in set_live.
  atomic_store_explicit(entry, value | CACHED_BIT, memory_order_relaxed);
  // Release: pairs with the exchange of the thread that takes the block.
  atomic_store_explicit(&bin->slots[bin->used++], block, memory_order_release);
}

// Gives a block whose class is full, or that takes the cache beyond its bound. `value` is what the entry held when the
// block was checked.
static HAK_NOINLINE enum hak_medium_given give_when_full(struct hak_medium_cache *cache, struct hak_medium_bin *bin,
                                                         void *block, HAK_ATOMIC(uint64_t) * entry, uint64_t value) {
  const bool is_over = cache->bytes + bin->bytes > bytes_bound();
  if (is_over && !make_room(cache, bin->bytes)) return HAK_MEDIUM_REFUSED;
  const bool is_full = bin->used == bin->room;
  if (is_full) make_slots(cache, bin);
  // Relaxed: as in set_live. The calls above take long enough for another thread to free the block too.
  if (HAK_UNLIKELY(atomic_load_explicit(entry, memory_order_relaxed) != value)) {
    hak_fatal_block("double free", block, bin->bytes);
  }
  put(cache, bin, block, entry, value);
  return is_over || is_full ? HAK_MEDIUM_MOVED_OTHERS : HAK_MEDIUM_CACHED;
}

// The same for the first block of a thread, which has no cache yet.
static HAK_COLD enum hak_medium_given give_first(struct hak_heap *heap, void *block, HAK_ATOMIC(uint64_t) * entry,
                                                 uint64_t value) {
  struct hak_medium_cache *cache = attach(heap);
  if (cache == NULL) return HAK_MEDIUM_REFUSED;
  return give_when_full(cache, &cache->bins[hak_medium_class_of_tag(hak_page_tag_of(value))], block, entry, value);
}

enum hak_medium_given hak_medium_give(struct hak_heap *heap, void *block) {
  HAK_ATOMIC(uint64_t) *entry = hak_page_entry_at(block);
  if (HAK_UNLIKELY(entry == NULL)) return HAK_MEDIUM_REFUSED;
  const uint64_t value = atomic_load_explicit(entry, memory_order_relaxed);  // Relaxed: as in set_live.
  const uint32_t tag = hak_page_tag_of(value);
  if (HAK_UNLIKELY(!hak_medium_begins(tag, block))) return HAK_MEDIUM_REFUSED;
  hak_medium_require_not_cached(tag, block);
  struct hak_medium_cache *cache = cache_of(heap);
  if (HAK_UNLIKELY(cache == NULL)) return give_first(heap, block, entry, value);
  struct hak_medium_bin *bin = &cache->bins[hak_medium_class_of_tag(tag)];
  const uint64_t bytes = cache->bytes + bin->bytes;
  if (HAK_UNLIKELY(bytes > bytes_bound() || bin->used == bin->room)) {
    return give_when_full(cache, bin, block, entry, value);
  }
  put(cache, bin, block, entry, value);
  return HAK_MEDIUM_CACHED;
}

uint32_t hak_medium_flush(struct hak_heap *heap) {
  struct hak_medium_cache *cache = cache_of(heap);
  return cache != NULL ? empty_all(cache) : 0;
}

uint32_t hak_medium_flush_idle(struct hak_heap *heap, uint64_t now, uint64_t idle_ms) {
  struct hak_medium_cache *cache = cache_of(heap);
  if (cache == NULL) return 0;
  const uint64_t given = atomic_load_explicit(&cache->given, memory_order_relaxed);  // Relaxed: a hint.
  return hak_idle_since(&cache->seen_given, &cache->seen_since_ms, given, now, idle_ms) ? empty_all(cache) : 0;
}

void hak_medium_destroy(struct hak_heap *heap) {
  struct hak_medium_cache *cache = cache_of(heap);
  if (cache == NULL) return;
  // Relaxed: who reads it next does so under the registry's lock, or is the record's next thread.
  atomic_store_explicit(&heap->medium, NULL, memory_order_relaxed);
  hak_meta_free(cache, sizeof *cache);
  atomic_fetch_sub_explicit(&caches, 1, memory_order_relaxed);
  hak_medium_obey_setting();
}

void hak_medium_count(const struct hak_heap *heap, uint64_t counts[HAK_MEDIUM_COUNT]) {
  // Acquire: pairs with attach.
  const struct hak_medium_cache *cache = atomic_load_explicit(&heap->medium, memory_order_acquire);
  if (cache == NULL) return;
  for (uint32_t class_id = 0; class_id < HAK_MEDIUM_COUNT; class_id++) {
    const struct hak_medium_bin *bin = &cache->bins[class_id];
    // Relaxed: a statistic.
    for (uint32_t i = 0; i < bin->room; i++) {
      counts[class_id] += atomic_load_explicit(&bin->slots[i], memory_order_relaxed) != NULL;
    }
  }
}
