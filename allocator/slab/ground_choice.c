// SPDX-License-Identifier: Apache-2.0
//
// Chooses small pages or huge pages for a superslab, and advises the kernel.
#include "allocator/slab/ground_choice.h"

#include "allocator/os/decommit.h"
#include "allocator/policy/config.h"
#include "allocator/policy/huge_pages.h"
#include "allocator/policy/memory_limit.h"

bool hak_ground_wants_huge(bool further) {
  const struct hak_huge_facts facts = hak_huge_facts_now(further);
  // Near a limit memory is taken in small steps.
  return hak_should_use_huge(&facts) && hak_limit_has_room(HAK_SUPERSLAB_SIZE);
}

bool hak_ground_populates(void) {
  const struct hak_huge_facts facts = hak_huge_facts_now(true);
  return hak_should_populate(&facts);
}

bool hak_ground_prepare(void *memory, bool huge) {
  if (huge) return hak_os_advise_huge(memory, HAK_SUPERSLAB_SIZE, true);
  // Where the system provides huge pages without advice, the first touch of a superslab would take 2 MiB.
  const enum hak_huge_pages wanted = HAK_SETTING(huge_pages);
  if (wanted != HAK_HUGE_PAGES_AUTO || hak_os_huge_by_default()) {
    hak_os_advise_huge(memory, HAK_SUPERSLAB_SIZE, wanted == HAK_HUGE_PAGES_ON);
  }
  return false;
}
