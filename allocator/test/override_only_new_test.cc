// SPDX-License-Identifier: Apache-2.0
//
// A program that names no C allocation function: it only uses `new`. Without alwayslink the linker would not pull in
// the override, and the program would silently use another malloc. The statistics are declared weak, so that this file
// does not pull them in either.
#include <hakmem/hakmem.h>
#include <stdio.h>

#include <memory>
#include <string>

extern "C" __attribute__((weak)) int hak_stats_get(hak_stats *stats) HAK_NOEXCEPT;

int main() {
  if (hak_stats_get == nullptr) {
    puts("FAILED: the override was not linked in");
    return 1;
  }
  hak_stats before = {};
  before.version = HAK_STATS_VERSION;
  hak_stats_get(&before);
  const auto text = std::make_unique<std::string>(5000, 'x');
  hak_stats after = {};
  after.version = HAK_STATS_VERSION;
  hak_stats_get(&after);
  if (after.live_blocks != before.live_blocks + 2 || text->size() != 5000) {
    printf("FAILED: live blocks went from %llu to %llu for two allocations\n",
           static_cast<unsigned long long>(before.live_blocks), static_cast<unsigned long long>(after.live_blocks));
    return 1;
  }
  puts("the override serves new");
  return 0;
}
