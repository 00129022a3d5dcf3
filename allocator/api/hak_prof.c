// SPDX-License-Identifier: Apache-2.0
//
// The public functions of the sampler, linked only where they are called; include/hakmem/hakmem.h documents them.
#include <errno.h>
#include <hakmem/hakmem.h>

#include "allocator/prof/sampler.h"

#if HAK_PROF

int hak_prof_start(void) { return hak_config_set("HAKMEM_PROF", "1"); }
int hak_prof_stop(void) { return hak_config_set("HAKMEM_PROF", "0"); }

#define COPIED 32u

// Fills in what the stack's table has. False: it was forgotten since (a child that was made without the fork handlers).
static bool describe(const struct hak_live_sample *from, hak_prof_sample *to) {
  struct hak_stack_totals totals;
  *to = (hak_prof_sample){.address = from->address,
                          .size = (size_t)from->size,
                          .weight_bytes = from->weight * (double)from->size,
                          .weight_objects = from->weight,
                          .when_ns = from->when_ns,
                          .thread = from->thread};
  return hak_sampler_stack(from->stack, &to->frame, &to->frames, &totals);
}

int hak_prof_visit_live(int (*visit)(const hak_prof_sample *sample, void *argument), void *argument) {
  if (visit == NULL) return EINVAL;
  struct hak_live_sample copies[COPIED];
  uint32_t slot = 0;
  uint32_t count;
  while ((count = hak_sampler_read(&slot, copies, COPIED)) != 0) {
    for (uint32_t i = 0; i < count; i++) {
      hak_prof_sample sample;
      const int result = describe(&copies[i], &sample) ? visit(&sample, argument) : 0;
      if (result != 0) return result;
    }
  }
  return 0;
}

int hak_prof_visit_stacks(int (*visit)(const hak_prof_stack *stack, void *argument), void *argument) {
  if (visit == NULL) return EINVAL;
  hak_prof_stack stack;
  struct hak_stack_totals totals;
  for (uint32_t number = 0; hak_sampler_stack(number, &stack.frame, &stack.frames, &totals); number++) {
    stack.alloc_objects = totals.alloc_objects;
    stack.alloc_bytes = totals.alloc_bytes;
    stack.inuse_objects = totals.inuse_objects;
    stack.inuse_bytes = totals.inuse_bytes;
    const int result = totals.alloc_objects > 0 ? visit(&stack, argument) : 0;
    if (result != 0) return result;
  }
  return 0;
}

#else

int hak_prof_start(void) { return ENOTSUP; }
int hak_prof_stop(void) { return ENOTSUP; }

int hak_prof_visit_live(int (*visit)(const hak_prof_sample *sample, void *argument), void *argument) {
  (void)argument;
  return visit == NULL ? EINVAL : ENOTSUP;
}

int hak_prof_visit_stacks(int (*visit)(const hak_prof_stack *stack, void *argument), void *argument) {
  (void)argument;
  return visit == NULL ? EINVAL : ENOTSUP;
}

#endif
