#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies a source of the allocator with the races of races.h in it: plant.py SOURCE OUTPUT

Each race replaces a text that must occur exactly once, so a change of the code that a race does not fit fails here."""

import pathlib
import sys

# File -> (race, text, text with the race). RACE stands for the question whether it is switched on.
RACES = {
    "remote.c": [
        (
            "TORN_PUSH",
            "!atomic_compare_exchange_weak_explicit(&slab->remote, &seen, next, "
            "memory_order_acq_rel, memory_order_relaxed)",
            "!(RACE ? (atomic_store_explicit(&slab->remote, next, memory_order_release), true) : "
            "atomic_compare_exchange_strong_explicit(&slab->remote, &seen, next, "
            "memory_order_acq_rel, memory_order_relaxed))",
        ),
        (
            "TORN_NOTICE",
            "!atomic_compare_exchange_weak_explicit(&owner->pending, &head, slab, "
            "memory_order_release, memory_order_relaxed)",
            "!(RACE ? (atomic_store_explicit(&owner->pending, slab, memory_order_release), true) : "
            "atomic_compare_exchange_strong_explicit(&owner->pending, &head, slab, "
            "memory_order_release, memory_order_relaxed))",
        ),
        (
            "TORN_DETACH",
            "const uint64_t taken = atomic_exchange_explicit(&slab->remote, 0, memory_order_acq_rel);",
            "uint64_t taken = 0;\n"
            "  if (RACE) {\n"
            "    taken = atomic_load_explicit(&slab->remote, memory_order_acquire);\n"
            "    atomic_store_explicit(&slab->remote, 0, memory_order_release);\n"
            "  } else {\n"
            "    taken = atomic_exchange_explicit(&slab->remote, 0, memory_order_acq_rel);\n"
            "  }",
        ),
        (
            "TORN_DRAIN",
            "heap->drain.slabs = atomic_exchange_explicit(&heap->pending, HAK_PENDING_END, memory_order_acquire);",
            "if (RACE) {\n"
            "      heap->drain.slabs = atomic_load_explicit(&heap->pending, memory_order_acquire);\n"
            "      atomic_store_explicit(&heap->pending, HAK_PENDING_END, memory_order_release);\n"
            "    } else {\n"
            "      heap->drain.slabs =\n"
            "          atomic_exchange_explicit(&heap->pending, HAK_PENDING_END, memory_order_acquire);\n"
            "    }",
        ),
    ],
    "give_back.c": [
        (
            "ORPHAN_FREED",
            "if (atomic_load_explicit(&slab->owner, memory_order_relaxed) != &hak_orphanage) break;",
            "if ((!RACE || i > 0) && "
            "atomic_load_explicit(&slab->owner, memory_order_relaxed) != &hak_orphanage) break;",
        ),
    ],
    "idle_cache.c": [
        ("PUTS_NONE_BACK", "} else if (taken->slot <= tops[i] + 1) {", "} else if (!RACE && taken->slot <= tops[i] + 1) {"),
        (
            "STALE_TOP",
            "tops[i] = hak_bin_top(round->taken[i].bin);",
            "tops[i] = RACE ? round->taken[i].slot + 1 : hak_bin_top(round->taken[i].bin);",
        ),
        (
            "TORN_STEAL",
            "__atomic_load_n(slot, __ATOMIC_RELAXED) != NULL ? __atomic_exchange_n(slot, NULL, __ATOMIC_ACQ_REL) : NULL;",
            "NULL;\n"
            "    if (RACE) {\n"
            "      block = __atomic_load_n(slot, __ATOMIC_ACQUIRE);\n"
            "      __atomic_store_n(slot, NULL, __ATOMIC_RELEASE);\n"
            "    } else if (__atomic_load_n(slot, __ATOMIC_RELAXED) != NULL) {\n"
            "      block = __atomic_exchange_n(slot, NULL, __ATOMIC_ACQ_REL);\n"
            "    }",
        ),
    ],
    "idle_slabs.c": [
        (
            "EARLY_ORPHAN",
            "hak_heap_link(&hak_orphanage, slab);",
            "if (RACE) hak_lock_release(&hak_orphanage_lock);\n"
            "      if (RACE) hak_lock_acquire(&hak_orphanage_lock);\n"
            "      hak_heap_link(&hak_orphanage, slab);",
        ),
    ],
    "medium_cache.c": [
        (
            "TORN_EMPTY",
            "return atomic_exchange_explicit(slot, NULL, memory_order_acq_rel);",
            "if (RACE) {\n"
            "    void *block = atomic_load_explicit(slot, memory_order_acquire);\n"
            "    atomic_store_explicit(slot, NULL, memory_order_release);\n"
            "    return block;\n"
            "  }\n"
            "  return atomic_exchange_explicit(slot, NULL, memory_order_acq_rel);",
        ),
        (
            "TORN_MOVE",
            "void *block = exchange(&bin->slots[i]);\n"
            "    // Release: pairs with the exchange of another thread.\n"
            "    atomic_store_explicit(&bin->slots[i - half], block, memory_order_release);",
            "void *block = RACE ? atomic_load_explicit(&bin->slots[i], memory_order_acquire) : exchange(&bin->slots[i]);\n"
            "    atomic_store_explicit(&bin->slots[i - half], block, memory_order_release);\n"
            "    if (RACE) atomic_store_explicit(&bin->slots[i], NULL, memory_order_release);",
        ),
        (
            "LATE_TAG",
            "atomic_store_explicit(entry, value | CACHED_BIT, memory_order_relaxed);\n"
            "  // Release: pairs with the exchange of the thread that takes the block.\n"
            "  atomic_store_explicit(&bin->slots[bin->used++], block, memory_order_release);",
            "if (!RACE) atomic_store_explicit(entry, value | CACHED_BIT, memory_order_relaxed);\n"
            "  atomic_store_explicit(&bin->slots[bin->used++], block, memory_order_release);\n"
            "  if (RACE) atomic_store_explicit(entry, value | CACHED_BIT, memory_order_relaxed);",
        ),
    ],
    "run_release.c": [
        (
            "LATE_TAKE_OUT",
            "  hak_run_take_out(run);\n  const size_t before = run->dirty;\n  trim->left -=",
            "  if (RACE) hak_mapping_step_in(hak_mapping_step_out());\n"
            "  hak_run_take_out(run);\n  const size_t before = run->dirty;\n  trim->left -=",
        ),
        (
            "FREE_IN_TRANSIT",
            "while (trim.left != 0 && (run = hak_run_oldest_dirty()) != NULL) trim_run(&trim, run, false);",
            "while (trim.left != 0 && (run = hak_run_oldest_dirty()) != NULL) {\n"
            "    if (RACE) {\n"
            "      char *const start = run->start;\n"
            "      const size_t size = run->size;\n"
            "      const bool out = hak_mapping_step_out();\n"
            "      hak_run_ground_decommit(start, size);\n"
            "      hak_mapping_step_in(out);\n"
            "      if ((run = hak_run_oldest_dirty()) == NULL) break;\n"
            "    }\n"
            "    trim_run(&trim, run, false);\n"
            "  }",
        ),
        (
            "LATE_CALL",
            "const size_t bytes = returned(before, run);\n  hak_run_make_free(run, since);\n  return bytes;",
            "const size_t bytes = returned(before, run);\n"
            "  char *const start = run->start;\n"
            "  const size_t size = run->size;\n"
            "  hak_run_make_free(run, since);\n"
            "  if (RACE) {\n"
            "    const bool out = hak_mapping_step_out();\n"
            "    hak_run_ground_decommit(start, size);\n"
            "    hak_mapping_step_in(out);\n"
            "  }\n"
            "  return bytes;",
        ),
    ],
    "slab_release.c": [
        ("LATE_LEAVE", "  leave_empty(ss);\n", "  if (RACE) hak_pool_step_in(hak_pool_step_out());\n  leave_empty(ss);\n"),
        (
            "TAKEN_IN_TRANSIT",
            "  ss->transit_mask |= slabs;\n  hak_pool_set_masks(ss, ss->free_mask & ~slabs, ss->dirty_mask);",
            "  if (!RACE) ss->transit_mask |= slabs;\n"
            "  if (!RACE) hak_pool_set_masks(ss, ss->free_mask & ~slabs, ss->dirty_mask);",
        ),
        (
            "FORGETS_EMPTY",
            "const bool became_empty = !was_empty &&",
            "const bool became_empty = !RACE && !was_empty &&",
        ),
        ("SETTLES_AT_ONCE", "waits < SETTLE_WAITS && hak", "!RACE && waits < SETTLE_WAITS && hak"),
    ],
    "heap_life.c": [
        (
            "LOST_NOTICES",
            "hak_pending_slab(atomic_exchange_explicit(&heap->pending, HAK_PENDING_CLOSED, memory_order_acq_rel));",
            "hak_pending_slab(atomic_exchange_explicit(&heap->pending, HAK_PENDING_CLOSED, memory_order_acq_rel));\n"
            "  if (RACE) slab = NULL;",
        ),
        (
            "EARLY_DESTROY",
            "    hak_medium_flush(heap);\n    hak_thread_cache_flush_all(heap);",
            "    hak_medium_flush(heap);\n"
            "    if (RACE) hak_medium_destroy(heap);\n"
            "    hak_thread_cache_flush_all(heap);",
        ),
    ],
}


def main(arguments):
    source, output = map(pathlib.Path, arguments)
    text = source.read_text(encoding="utf-8")
    for race, old, new in RACES[source.name]:
        times = text.count(old)
        if times != 1:
            sys.exit("plant.py: the text of the race %s occurs %d times in %s, not once" % (race, times, source))
        text = text.replace(old, new.replace("RACE", "hak_test_race_is(HAK_TEST_%s)" % race))
    output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
