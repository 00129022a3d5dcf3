// SPDX-License-Identifier: Apache-2.0
#include "fuzz/slab_map_engine.h"

#include <array>
#include <vector>

#include "allocator/os/fault.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/record.h"

namespace hak_fuzz {
namespace {

constexpr size_t kStepsMax = 256;
constexpr size_t kRegions = 64;
constexpr uintptr_t kRegionBytes = uintptr_t{1} << 32;
constexpr uintptr_t kTop = HAK_GRANULE_COUNT << HAK_SLAB_SHIFT;
constexpr size_t kRegionGranules = kRegionBytes / HAK_SLAB_SIZE;

// Every second region lies in the window of the flat form, if there is one. The others are spread over the address
// space and include its first and last region. A region that would be in the window lies directly below it, or above it
// if the window begins with the address space.
uintptr_t RegionStart(size_t region) {
  const uintptr_t last = kTop / kRegionBytes - 1;
  const uintptr_t window = hak_slab_map_base << HAK_SLAB_SHIFT;
  if (hak_slab_map_is_flat() && region % 2 != 0) return window + region * kRegionBytes;
  const bool last_one = hak_slab_map_is_flat() && region == kRegions - 2;
  const size_t number = last_one ? kRegions - 1 : region;
  const uintptr_t start = (number * last / (kRegions - 1)) * kRegionBytes;
  const bool inside = hak_slab_map_is_flat() && start - window < HAK_WINDOW_SIZE;
  if (!inside) return start;
  return window >= kRegionBytes ? window - kRegionBytes : window + HAK_WINDOW_SIZE;
}

// What each entry must be. Kept from input to input, like the map itself, whose memory is never returned. The entries
// that an input sets are reset at its end.
struct Model {
  std::array<std::vector<uint8_t>, kRegions> entries;
  std::array<bool, kRegions> covered = {};
};

Model &TheModel() {
  static auto *model = [] {
    auto *made = new Model;
    for (std::vector<uint8_t> &entries : made->entries) entries.assign(kRegionGranules, HAK_CLASS_NONE);
    return made;
  }();
  return *model;
}

const char *At(uintptr_t address) { return reinterpret_cast<const char *>(address); }

class Input {
 public:
  explicit Input(const SlabMapCalls &calls) : calls_(calls), model_(TheModel()) {}

  ~Input() {
    hak_fault_clear();
    for (const Run &run : runs_) {
      calls_.set(At(RegionStart(run.region) + run.granule * HAK_SLAB_SIZE), run.count, HAK_CLASS_NONE);
      for (size_t i = 0; i < run.count; ++i) model_.entries[run.region][run.granule + i] = HAK_CLASS_NONE;
    }
  }
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  void Step(const uint8_t *record) {
    const size_t region = record[1] % kRegions;
    const size_t superslab = Pair(record + 2) % (kRegionBytes / HAK_SUPERSLAB_SIZE);
    if (record[0] >= 128) {
      Look(region, superslab, record);
      return;
    }
    const bool refused = record[0] >= 96;
    if (refused) hak_fault_set(HAK_FAULT_MAP | HAK_FAULT_COMMIT, 1, UINT64_MAX);
    const bool done = calls_.cover(At(RegionStart(region) + superslab * HAK_SUPERSLAB_SIZE));
    hak_fault_clear();
    Check(done == (!refused || model_.covered[region]), "hak_slab_map_cover");
    if (done) {
      model_.covered[region] = true;
      Set(region, superslab, record);
    }
  }

  // All entries that were set, and their neighbours.
  void CheckAll() const {
    for (const Run &run : runs_) {
      const size_t first = run.granule == 0 ? 0 : run.granule - 1;
      const size_t end = std::min<size_t>(run.granule + run.count + 1, kRegionGranules);
      for (size_t granule = first; granule < end; ++granule) CheckEntry(run.region, granule, 0);
    }
  }

 private:
  struct Run {
    size_t region;
    size_t granule;
    uint32_t count;
  };

  void Set(size_t region, size_t superslab, const uint8_t *record) {
    const uint32_t first = record[4] % HAK_SLABS_PER_SUPERSLAB;
    const uint32_t count = 1 + record[5] % (HAK_SLABS_PER_SUPERSLAB - first);
    const uint32_t class_id = record[6] % HAK_CLASS_COUNT;
    const size_t granule = superslab * HAK_SLABS_PER_SUPERSLAB + first;
    runs_.push_back({region, granule, count});
    calls_.set(At(RegionStart(region) + granule * HAK_SLAB_SIZE), count, class_id);
    for (size_t i = 0; i < count; ++i) model_.entries[region][granule + i] = static_cast<uint8_t>(class_id);
  }

  void CheckEntry(size_t region, size_t granule, size_t offset) const {
    CheckAddress(RegionStart(region) + granule * HAK_SLAB_SIZE + offset, model_.entries[region][granule]);
  }

  void CheckAddress(uintptr_t address, uint32_t wanted) const {
    Check(calls_.find(At(address)) == wanted, "hak_slab_map_find");
    const uintptr_t granule = hak_slab_map_granule(At(address));
    const bool inside = granule < HAK_WINDOW_GRANULES;
    // Without a window the inline lookup covers only the first granule, where there are no blocks.
    Check(hak_slab_map_covers(granule) == (hak_slab_map_is_flat() ? inside : granule == 0), "hak_slab_map_covers");
    if (hak_slab_map_is_flat() && inside) Check(hak_slab_map_class(granule) == wanted, "hak_slab_map_class");
  }

  void Look(size_t region, size_t superslab, const uint8_t *record) const {
    if (record[7] % 4 == 0) {
      // Any address: one beyond the map has no entry, whatever its low bits are.
      const uintptr_t address = kTop << (record[7] / 4 % 16) | Four(record + 2);
      CheckAddress(address, HAK_CLASS_NONE);
      return;
    }
    const size_t offset = (record[7] / 4U * 1041) % HAK_SLAB_SIZE;
    CheckEntry(region, superslab * HAK_SLABS_PER_SUPERSLAB + record[4] % HAK_SLABS_PER_SUPERSLAB, offset);
  }

  const SlabMapCalls &calls_;
  Model &model_;
  std::vector<Run> runs_;
};

}  // namespace

void RunSlabMapInput(const SlabMapCalls &calls, hak_slab_map_form form, const uint8_t *data, size_t size) {
  static const bool flat = [form] {
    hak_slab_map_init(form);
    return hak_slab_map_is_flat();
  }();
  Check(flat == (form == HAK_SLAB_MAP_FLAT), "the map has not the form that was asked for");
  Input input(calls);
  ForEachRecord(data, size, kStepsMax, [&](const uint8_t *record) { input.Step(record); });
  input.CheckAll();
}

}  // namespace hak_fuzz
