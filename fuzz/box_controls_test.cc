// SPDX-License-Identifier: Apache-2.0
//
// size_class_fuzzer, slab_fuzzer and gate_fuzzer with planted bugs: their sources are compiled once more, with some
// calls replaced by functions with a bug. Each must notice its bug with the first inputs that a fuzzer makes.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <string.h>

#include <string>
#include <vector>

#include "allocator/block/size_class.h"
#include "allocator/gate/conf.h"
#include "allocator/gate/gate.h"
#include "allocator/gate/gate_now.h"
#include "allocator/slab/slab.h"
#include "allocator/test/test_random.h"
#include "fuzz/controls.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/op_mutator.h"

int SizeClassTarget(const uint8_t *data, size_t size);
int SlabTarget(const uint8_t *data, size_t size);
int GateTarget(const uint8_t *data, size_t size);

namespace {

enum class Plant {
  kNothing,
  kGoodSizeOneLess,
  kClassOneTooLarge,
  kAlignedForgetsAlignment,
  kStartInsideBlock,
  kTakeOneTooMany,
  kTakeFromTheTop,
  kCarveTwice,
  kPutTakesTwice,
  kPutForgets,
  kParseLenient,
  kParseChangesRefused,
  kParseBeyondMost,
  kParseRoundsSizes,
  kParseSmallSwitches,
  kNearestIsFirst,
  kResolveLastWins,
  kResolveSwapsTexts,
  kSetLater,
  kSetForgets,
  kGetOldOrigin,
  kConfKeepsBlanks,
  kConfIgnoresCase,
};
Plant g_plant;

bool Is(Plant plant) { return g_plant == plant; }

size_t PlantedGoodSize(size_t size) {
  const size_t good = hak_good_size(size);
  return Is(Plant::kGoodSizeOneLess) && size > 3000 ? good - 1 : good;
}

uint32_t PlantedClassOf(size_t size) {
  const uint32_t id = hak_class_of(size);
  return Is(Plant::kClassOneTooLarge) && id < HAK_CLASS_COUNT - 1 && id > 30 ? id + 1 : id;
}

uint32_t PlantedClassOfAligned(size_t size, size_t align) {
  return hak_class_of_aligned(size, Is(Plant::kAlignedForgetsAlignment) && align > 64 ? 64 : align);
}

bool PlantedIsBlockStart(const void *p, uint32_t reciprocal) {
  const void *other = static_cast<const char *>(p) + 1;
  return hak_slab_is_block_start(p, reciprocal) ||
         (Is(Plant::kStartInsideBlock) && hak_slab_is_block_start(other, reciprocal));
}

uint32_t PlantedTake(hak_slab *slab, void **out, uint32_t want) {
  const uint32_t got = hak_slab_take_free(slab, out, want);
  if (Is(Plant::kTakeOneTooMany) && got > 0 && got < want) {
    out[got] = out[got - 1];
    return got + 1;
  }
  if (Is(Plant::kTakeFromTheTop) && got > 1) std::swap(out[0], out[got - 1]);
  return got;
}

uint32_t PlantedCarve(hak_slab *slab, void **out, uint32_t want) {
  const uint32_t got = hak_slab_carve(slab, out, want);
  if (Is(Plant::kCarveTwice) && got > 1) out[1] = out[0];
  return got;
}

bool PlantedPut(hak_slab *slab, uint32_t index) {
  if (Is(Plant::kPutForgets) && index % 16 == 5) return !hak_slab_bit(slab, index);
  const bool done = hak_slab_put(slab, index);
  return done || Is(Plant::kPutTakesTwice);
}

bool PlantedParse(const hak_gate *gate, const char *text, uint64_t *value) {
  const uint64_t before = *value;
  bool good = hak_gate_parse(gate, text, value);
  if (!good && Is(Plant::kParseLenient) && text[0] == '+') good = hak_gate_parse(gate, text + 1, value);
  if (!good && Is(Plant::kParseChangesRefused)) *value = before + 1;
  if (!good && Is(Plant::kParseBeyondMost) && gate->choices == nullptr &&
      std::to_string(gate->most + 1) == std::string(text)) {
    *value = gate->most + 1;
    return true;
  }
  const size_t length = strlen(text);
  if (!good && Is(Plant::kParseRoundsSizes) && hak_gate_scale(gate) > 1024 && length > 1 && text[length - 1] == 'K') {
    *value = 0;
    return true;
  }
  if (good && Is(Plant::kParseSmallSwitches) && gate->is_switch && text[0] == 'O') {
    *value = before;
    return false;
  }
  return good;
}

const char *PlantedNearest(const char *text, size_t length) {
  const char *name = hak_gate_nearest_name(text, length);
  return name != nullptr && Is(Plant::kNearestIsFirst) ? hak_gates[0].name : name;
}

void PlantedResolve(const hak_gate_sources *sources, hak_gate_values *values) {
  hak_gate_sources planted = *sources;
  if (Is(Plant::kResolveSwapsTexts)) std::swap(planted.program, planted.build);
  std::vector<char *> turned;
  if (Is(Plant::kResolveLastWins)) {
    for (char *const *entry = sources->environment; *entry != nullptr; ++entry) turned.insert(turned.begin(), *entry);
    turned.push_back(nullptr);
    planted.environment = turned.data();
  }
  hak_gate_resolve(&planted, values);
}

int PlantedSet(const char *name, const char *text) {
  if (Is(Plant::kSetForgets) && strcmp(name, "HAKMEM_DECOMMIT_DEADLINE_MS") == 0) return 0;
  const int code = hak_gate_set(name, text);
  return Is(Plant::kSetLater) && code == EPERM ? 0 : code;
}

const char *PlantedGet(const char *name, const char **origin) {
  const char *text = hak_gate_get(name, origin);
  if (Is(Plant::kGetOldOrigin) && origin != nullptr) *origin = "default";
  return text;
}

bool PlantedConfNext(const char **rest, hak_conf_item *item) {
  const bool found = hak_conf_next(rest, item);
  if (found && Is(Plant::kConfKeepsBlanks) && **rest == ' ') ++item->length;
  return found;
}

bool PlantedConfNames(const hak_conf_item *item, const char *name) {
  return hak_conf_names(item, name) && !(Is(Plant::kConfIgnoresCase) && *item->text >= 'a');
}

}  // namespace

#define hak_good_size PlantedGoodSize
#define hak_class_of PlantedClassOf
#define hak_class_of_aligned PlantedClassOfAligned
#define hak_slab_is_block_start PlantedIsBlockStart
#define hak_slab_take_free PlantedTake
#define hak_slab_carve PlantedCarve
#define hak_slab_put PlantedPut
#define hak_gate_parse PlantedParse
#define hak_gate_nearest_name PlantedNearest
#define hak_gate_resolve PlantedResolve
#define hak_gate_set PlantedSet
#define hak_gate_get PlantedGet
#define hak_conf_next PlantedConfNext
#define hak_conf_names PlantedConfNames
#define LLVMFuzzerTestOneInput SizeClassTarget
#include "fuzz/size_class_fuzzer.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput SlabTarget
#include "fuzz/slab_fuzzer.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput GateTarget
#include "fuzz/gate_fuzzer.cc"
#undef LLVMFuzzerTestOneInput

namespace {

using Target = int (*)(const uint8_t *data, size_t size);

// Some lines with words of the dictionary.
std::vector<uint8_t> RandomLines(uint64_t seed) {
  static const char *const words[] = {"HAKMEM_PROFILE=",
                                      "HAKMEM_DECOMMIT_DEADLINE_MS=",
                                      "HAKMEM_SLAB_MAP=",
                                      "HAKMEM_SS_PREWARM=",
                                      "HAKMEM_PRESET=",
                                      "HAKMEM_THREAD_CACHE=",
                                      "profile=",
                                      "slab_map=",
                                      " ",
                                      "lean",
                                      "speed",
                                      "flat",
                                      "3600000",
                                      "3600001",
                                      "7",
                                      "+",
                                      "0",
                                      "12",
                                      "12K",
                                      "On"};
  hak_test::Random random(seed);
  std::string text;
  for (size_t i = 0; i < 12; ++i) {
    text += words[random.Index(std::size(words))];
    text += words[random.Index(std::size(words))];
    text += '\n';
    text += words[random.Index(std::size(words))];
    text += '\n';
  }
  return std::vector<uint8_t>(text.begin(), text.end());
}

// What the target reports first, or "".
std::string FindPlanted(Target target, hak_fuzz::MakeInput make, Plant plant) {
  g_plant = plant;
  const std::string found = hak_fuzz::Find(target, make, 500);
  g_plant = Plant::kNothing;
  return found;
}

TEST(SizeClass, NothingPlanted) {
  EXPECT_EQ(FindPlanted(SizeClassTarget, hak_fuzz::RandomRecords, Plant::kNothing), "");
}

TEST(SizeClass, PlantsAreFound) {
  EXPECT_NE(FindPlanted(SizeClassTarget, hak_fuzz::RandomRecords, Plant::kGoodSizeOneLess), "");
  EXPECT_EQ(FindPlanted(SizeClassTarget, hak_fuzz::RandomRecords, Plant::kClassOneTooLarge), "hak_class_of");
  EXPECT_EQ(FindPlanted(SizeClassTarget, hak_fuzz::RandomRecords, Plant::kAlignedForgetsAlignment),
            "hak_class_of_aligned");
  EXPECT_EQ(FindPlanted(SizeClassTarget, hak_fuzz::RandomRecords, Plant::kStartInsideBlock), "hak_slab_is_block_start");
}

TEST(Slab, NothingPlanted) { EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kNothing), ""); }

TEST(Slab, PlantsAreFound) {
  EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kTakeOneTooMany),
            "take_free gave another number of blocks");
  EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kTakeFromTheTop), "take_free gave another block");
  EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kCarveTwice), "carve gave another block");
  EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kPutTakesTwice), "put took a block that was free");
  EXPECT_EQ(FindPlanted(SlabTarget, hak_fuzz::RandomRecords, Plant::kPutForgets), "free_count");
}

TEST(Gate, NothingPlanted) { EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kNothing), ""); }

TEST(Gate, PlantsAreFound) {
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kParseLenient),
            "hak_gate_parse accepts something else than documented");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kParseChangesRefused), "a refused text changed the value");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kParseBeyondMost),
            "hak_gate_parse accepts something else than documented");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kParseRoundsSizes),
            "hak_gate_parse accepts something else than documented");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kParseSmallSwitches),
            "hak_gate_parse accepts something else than documented");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kNearestIsFirst), "another name is nearer");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kResolveLastWins), "a setting has another value");
  EXPECT_NE(FindPlanted(GateTarget, RandomLines, Plant::kResolveSwapsTexts), "");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kSetLater), "hak_gate_set gives another code");
  EXPECT_NE(FindPlanted(GateTarget, RandomLines, Plant::kSetForgets), "");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kGetOldOrigin), "or another origin");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kConfKeepsBlanks), "hak_conf_next gives another item");
  EXPECT_EQ(FindPlanted(GateTarget, RandomLines, Plant::kConfIgnoresCase), "hak_conf_names");
}

}  // namespace
