// SPDX-License-Identifier: Apache-2.0
//
// Some containers of a program use hakmem, by their allocator.
#include <hakmem/stl_allocator.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <vector>

namespace {

template <typename T>
using Vector = std::vector<T, hakmem::StlAllocator<T>>;

template <typename K, typename V>
using HashMap = std::unordered_map<K, V, std::hash<K>, std::equal_to<K>, hakmem::StlAllocator<std::pair<const K, V>>>;

// Aligned for the widest vector instructions, which the allocator respects.
struct alignas(64) Lane {
  float values[16];
};

unsigned long long LiveBlocks() {
  hak_stats stats = {};
  stats.version = HAK_STATS_VERSION;
  return hak_stats_get(&stats) == 0 ? stats.live_blocks : 0;
}

}  // namespace

int main() {
  const unsigned long long before = LiveBlocks();
  unsigned long long during = 0;
  bool aligned = true;
  {
    HashMap<int, Vector<int>> lists;
    for (int i = 0; i < 1000; i++) lists[i % 100].push_back(i);
    const Vector<Lane> lanes(100);
    aligned = reinterpret_cast<uintptr_t>(lanes.data()) % alignof(Lane) == 0;
    const auto shared = std::allocate_shared<Lane>(hakmem::StlAllocator<Lane>());
    during = LiveBlocks();
  }
  const unsigned long long after = LiveBlocks();
  std::printf("hakmem holds %llu blocks before, %llu during, %llu after\n", before, during, after);
  return aligned && during > before + 200 && after == before ? 0 : 1;
}
