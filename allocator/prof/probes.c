// SPDX-License-Identifier: Apache-2.0
//
// The places of the probes. Nothing in FAST links them.
#include "allocator/prof/probes.h"

#include "allocator/prof/usdt.h"

// Not final upstream.
#define PROVIDER "otel_memory"

HAK_USDT_SEMAPHORE HAK_ATOMIC(uint16_t) hak_probe_alloc_semaphore = 0;
HAK_USDT_SEMAPHORE HAK_ATOMIC(uint16_t) hak_probe_free_semaphore = 0;

HAK_USDT_FUNCTION void hak_probe_alloc(const void *block, uint64_t size, uint64_t weighted_bytes) {
  HAK_USDT_3(PROVIDER, "alloc", "hak_probe_alloc_semaphore", (uintptr_t)block, size, weighted_bytes);
}

HAK_USDT_FUNCTION void hak_probe_free(const void *block) {
  HAK_USDT_1(PROVIDER, "free", "hak_probe_free_semaphore", (uintptr_t)block);
}
