// SPDX-License-Identifier: Apache-2.0
//
// Some containers of a program use hakmem, by a std::pmr::memory_resource.
#include <hakmem/memory_resource.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace {

unsigned long long LiveBytes() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  return hak_stats_get(&stats) == 0 ? stats.live_bytes : 0;
}

}  // namespace

int main() {
  const unsigned long long before = LiveBytes();
  unsigned long long during = 0;
  {
    std::pmr::map<int, std::pmr::string> squares(hakmem::hakmem_resource());
    for (int i = 0; i < 1000; i++) squares.emplace(i, "the square of a number that is " + std::to_string(i));

    // A pool on top of it, for example for one request of a server.
    std::pmr::monotonic_buffer_resource request(hakmem::hakmem_resource());
    std::pmr::vector<std::pmr::string> lines(&request);
    for (const auto &[number, text] : squares) lines.push_back(text);
    during = LiveBytes();
  }
  const unsigned long long after = LiveBytes();
  std::printf("hakmem holds %llu bytes before, %llu during, %llu after\n", before, during, after);
  return during > before + 50000 && after == before ? 0 : 1;
}
