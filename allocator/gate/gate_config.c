// SPDX-License-Identifier: Apache-2.0
#include "allocator/gate/gate_config.h"

#include "allocator/gate/ss_mem_lean.h"
#include "allocator/os/os.h"

uint64_t hak_gate_limit_floor(void) { return hak_os_resident_bytes() >> 20; }

void hak_gate_fill_config(const struct hak_gate_values *values, struct hak_config *config) {
  const uint64_t *value = values->value;
  config->decommit_deadline_ms = value[HAK_GATE_DECOMMIT_DEADLINE];
  config->thread_cache_bytes = value[HAK_GATE_THREAD_CACHE] * 1024;
  config->thread_cache_share = value[HAK_GATE_THREAD_CACHE_SHARE];
  config->idle_cache_ms = value[HAK_GATE_IDLE_CACHE];
  config->page_purge = value[HAK_GATE_PAGE_PURGE] != 0;
  config->idle_watch = value[HAK_GATE_IDLE_WATCH] != 0;
  config->background = value[HAK_GATE_BACKGROUND] != 0;
  config->fine_classes = value[HAK_GATE_FINE_CLASSES] != 0;
  config->borrow = value[HAK_GATE_BORROW] != 0;
  config->mapping_cache_bytes = value[HAK_GATE_MAPPING_CACHE] * 1024;
  config->keep_superslabs = value[HAK_GATE_KEEP_SUPERSLABS];
  config->keep_free_bytes = value[HAK_GATE_KEEP_FREE] * 1024;
  config->memory_limit_bytes = value[HAK_GATE_MEMORY_LIMIT] << 20;
  config->guard_sample = value[HAK_GATE_GUARD_SAMPLE];
  config->cgroup_limit = value[HAK_GATE_CGROUP_LIMIT] != 0;
  config->huge_pages = (enum hak_huge_pages)value[HAK_GATE_THP];
  config->slab_map_form = (enum hak_slab_map_form)value[HAK_GATE_SLAB_MAP];
  config->stats_at_exit = value[HAK_GATE_STATS_AT_EXIT] != 0;
  hak_ss_mem_lean_resolve(values, config);
}
