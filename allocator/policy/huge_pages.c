// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/huge_pages.h"

bool hak_huge_wanted(const struct hak_huge_facts *facts) {
  if (!facts->available || facts->wanted == HAK_HUGE_PAGES_OFF) return false;
  if (facts->wanted == HAK_HUGE_PAGES_ON) return true;
  // The guards of HARDENED take every huge page apart.
  return !HAK_HARDENED && facts->further && !facts->eager && facts->committed >= HAK_HUGE_FROM;
}

bool hak_huge_populate_instead(const struct hak_huge_facts *facts) {
  return !facts->available && !facts->eager && facts->committed >= HAK_HUGE_FROM;
}
