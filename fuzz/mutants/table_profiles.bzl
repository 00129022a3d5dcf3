# SPDX-License-Identifier: Apache-2.0
"""Mutants of profiles: what the sampler keeps for them besides the live blocks, and when they are written."""

PROFILE_MUTANTS = [
    {
        "name": "lifetime_without_weight",
        "file": "allocator/prof/stack_table.c",
        "old": "record->totals.lived_us += weight * (double)lived_us;",
        "new": "record->totals.lived_us += (double)lived_us;",
        "kind": "wrong value",
        "breaks": "the mean life of a stack's blocks is too short by the factor of sampling",
        "killer": "//allocator/prof:tables_test",
    },
    {
        "name": "lifetime_of_forgotten_blocks",
        "file": "allocator/prof/stack_table.c",
        "old": "if (record == NULL || record->samples == 0) return NULL;",
        "new": "if (record == NULL) return NULL;",
        "kind": "missing check",
        "breaks": "blocks from before the table was forgotten count as freed ones of another stack",
        "killer": "//allocator/prof:tables_test",
    },
    {
        "name": "lifetime_of_no_free",
        "file": "allocator/prof/sampler.c",
        "old": "hak_stack_count_freed(sample.stack, sample.weight, sample.size, age_us(&sample, hak_os_now_us()));",
        "new": "hak_stack_count_out(sample.stack, sample.weight, sample.size);",
        "kind": "dropped step",
        "breaks": "freed blocks have no lifetime",
        "killer": "//allocator/test/prof:dump_test",
    },
    {
        "name": "lifetime_of_no_realloc",
        "file": "allocator/prof/sampler.c",
        "old": "hak_stack_count_freed(sample->stack, sample->weight, sample->size, lived_us);",
        "new": "hak_stack_count_out(sample->stack, sample->weight, sample->size);",
        "kind": "dropped step",
        "breaks": "a block that realloc ends has no lifetime",
        "killer": "//allocator/test/prof:dump_test",
    },
    {
        "name": "lifetime_in_other_units",
        "file": "allocator/prof/sampler.c",
        "old": "const uint64_t since_us = sample->when_ns / 1000;",
        "new": "const uint64_t since_us = sample->when_ns;",
        "kind": "wrong value",
        "breaks": "blocks seem to be freed before they were allocated",
        "killer": "//allocator/test/prof:dump_test",
    },
]
