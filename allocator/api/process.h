// SPDX-License-Identifier: Apache-2.0
//
// The life of the process and of its threads: first use, a thread's heap and its end, fork, exit.
#ifndef HAKMEM_API_PROCESS_H_
#define HAKMEM_API_PROCESS_H_

#include "allocator/api/thread_state.h"
#include "allocator/heap/bin.h"
#include "allocator/hot/thread.h"

HAK_C_BEGIN

// The slow part of hak_thread_heap.
HAK_COLD struct hak_heap *hak_thread_attach(void);

// The calling thread's heap, which the first call opens. NULL: the thread's heap was closed for good, or there is no
// memory for one. Such a thread uses the orphanage.
HAK_INLINE struct hak_heap *hak_thread_heap(void) {
  struct hak_cache *cache = hak_thread_cache;
  if (HAK_LIKELY(cache != &hak_no_cache)) return hak_heap_of_cache(cache);
  return hak_thread_attach();
}

// The thread's heap for a free. Also NULL for a thread that has no heap and has not freed much: its blocks go straight
// back to their slabs.
HAK_COLD struct hak_heap *hak_thread_heap_to_free(void);

// Registers the fork handlers and the thread key, unless it is too early for that. A constructor with a high priority,
// and in programs an entry of .preinit_array (api/early.h); the arguments are those of both.
void hak_process_start_hooks(int argc, char **argv, char **environment);

// What writes profiles at the end of the process and by signal: it begins after the settings are known, and returns
// whether there is such a thing. The definitions in process.c are weak and do nothing; api/dump_triggers.c, which is
// linked only with the writer of profiles, has others.
bool hak_process_triggers_start(void);
void hak_process_triggers_exit(void);

// hak_gate_set, and what must follow a change besides hak_config. Hold no lock.
int hak_process_configure(const char *name, const char *value);

HAK_C_END

#endif  // HAKMEM_API_PROCESS_H_
