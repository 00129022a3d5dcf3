// SPDX-License-Identifier: Apache-2.0
//
// Which superslabs get huge pages.
#include "allocator/policy/huge_pages.h"

#include "allocator/os/decommit.h"
#include "allocator/policy/config.h"
#include "allocator/policy/memory_limit.h"

struct hak_huge_facts hak_huge_facts_now(bool further) {
  const struct hak_huge_facts facts = {
      .wanted = HAK_SETTING(huge_pages),
      .available = hak_os_huge_pages() != HAK_HUGE_NEVER,
      .further = further,
      .eager = HAK_SETTING(lean_decommit) != HAK_DECOMMIT_OFF || HAK_SETTING(decommit_deadline_ms) == 0,
      .committed = hak_commit_now(),
  };
  return facts;
}

bool hak_should_use_huge(const struct hak_huge_facts *facts) {
  if (!facts->available || facts->wanted == HAK_HUGE_PAGES_OFF) return false;
  if (facts->wanted == HAK_HUGE_PAGES_ON) return true;
  // The guards of HARDENED take every huge page apart.
  return !HAK_HARDENED && facts->further && !facts->eager && facts->committed >= HAK_HUGE_FROM;
}

bool hak_should_populate(const struct hak_huge_facts *facts) {
  return !facts->available && !facts->eager && facts->committed >= HAK_HUGE_FROM;
}
