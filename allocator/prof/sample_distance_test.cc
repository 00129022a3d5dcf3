// SPDX-License-Identifier: Apache-2.0
//
// Distances and weights against the mathematical library and against their distribution. A bound on a random result is
// seven standard deviations wide: it is missed by chance once in 10^11 runs.
#include "allocator/prof/sample_distance.h"

#include <cfloat>
#include <cmath>

#include "allocator/os/unit_test.h"

namespace {

constexpr double kWide = 7;

void ExpectLog(double x) {
  const double expected = std::log(x);
  const double allowed = std::max(1e-16, 1e-14 * std::fabs(expected));
  EXPECT_NEAR(hak_sample_log(x), expected, allowed) << x;
}

TEST(SampleDistanceTest, LogarithmIsThatOfTheMathematicalLibrary) {
  for (const double x : {1.0, 0.5, 2.0, DBL_MIN, DBL_MAX, 0x1p-53, 1.4142135623730950, 1.4142135623730951, M_E}) {
    ExpectLog(x);
  }
  hak_unit::Random random(1);
  for (int i = 0; i < hak_unit::Operations(200000); i++) {
    const double fraction = 1 + static_cast<double>(random.Next() >> 12) * 0x1p-52;
    ExpectLog(std::ldexp(fraction, static_cast<int>(random.Below(2000)) - 1000));
    ExpectLog(static_cast<double>((random.Next() >> 11) + 1) * 0x1p-53);
  }
}

void ExpectChance(double x) {
  const double expected = -std::expm1(-x);
  EXPECT_NEAR(hak_sample_chance(x), expected, 1e-14 * expected) << x;
}

TEST(SampleDistanceTest, ChanceIsThatOfTheMathematicalLibrary) {
  for (const double x : {0.0, 1e-300, 1e-9, 0.34657359027997264, 0.5, 0.6931471805599453, 1.0, 63.9, 64.1, 1e9}) {
    ExpectChance(x);
  }
  hak_unit::Random random(2);
  for (int i = 0; i < hak_unit::Operations(200000); i++) {
    const double uniform = static_cast<double>(random.Next() >> 11) * 0x1p-53;
    ExpectChance(uniform * 70);
    ExpectChance(std::ldexp(uniform, -static_cast<int>(random.Below(60))));
  }
}

TEST(SampleDistanceTest, WeightsOfExtremeSizes) {
  EXPECT_EQ(hak_sample_weight(1, 0), 1) << "every block is sampled";
  EXPECT_EQ(hak_sample_weight(0, 512 * 1024), hak_sample_weight(1, 512 * 1024));
  EXPECT_EQ(hak_sample_weight(UINT64_MAX, 1), 1);
  // A small block stands for nearly mean / size blocks.
  EXPECT_NEAR(hak_sample_weight(16, 1 << 20), 65536 + 0.5, 1e-4);
  EXPECT_NEAR(hak_sample_weight(1 << 20, 1 << 20), 1 / (1 - std::exp(-1.0)), 1e-13);
}

TEST(SampleDistanceTest, EveryBlockIsSampledWithMeanZero) {
  uint64_t state = 1;
  for (int i = 0; i < 100; i++) EXPECT_EQ(hak_sample_distance(&state, 0), 0u);
}

// The mean, and how many distances end within a block of each size.
TEST(SampleDistanceTest, DistancesAreExponential) {
  constexpr uint64_t kMean = 4096;
  const int draws = hak_unit::Operations(400000);
  hak_unit::Random random(3);
  uint64_t state = random.Next();
  double sum = 0;
  constexpr uint64_t kSizes[] = {1, 64, 1000, 4096, 10000, 30000};
  uint64_t within[std::size(kSizes)] = {};
  for (int i = 0; i < draws; i++) {
    const uint64_t distance = hak_sample_distance(&state, kMean);
    sum += static_cast<double>(distance);
    for (size_t s = 0; s < std::size(kSizes); s++) within[s] += distance < kSizes[s];
  }
  // Rounding down takes half a byte.
  EXPECT_NEAR(sum / draws, kMean - 0.5, kWide * kMean / std::sqrt(draws));
  for (size_t s = 0; s < std::size(kSizes); s++) {
    const double chance = -std::expm1(-static_cast<double>(kSizes[s]) / kMean);
    EXPECT_NEAR(static_cast<double>(within[s]) / draws, chance,
                kWide * std::sqrt(chance * (1 - chance) / draws) + 1.0 / draws)
        << kSizes[s];
  }
}

// What the sampler does with them: the weights of the sampled blocks add up to the number of all blocks.
TEST(SampleDistanceTest, WeightsAddUpToAllBlocks) {
  constexpr uint64_t kMean = 10000;
  hak_unit::Random random(4);
  for (const uint64_t size : {1u, 16u, 700u, 10000u, 90000u}) {
    uint64_t state = random.Next();
    uint64_t left = hak_sample_distance(&state, kMean);
    const int blocks = hak_unit::Operations(400000);
    double estimate = 0;
    for (int i = 0; i < blocks; i++) {
      if (left >= size) {
        left -= size;
        continue;
      }
      left = hak_sample_distance(&state, kMean);
      estimate += hak_sample_weight(size, kMean);
    }
    const double chance = -std::expm1(-static_cast<double>(size) / kMean);
    const double deviation = std::sqrt(blocks * (1 - chance) / chance);
    EXPECT_NEAR(estimate, blocks, kWide * deviation + 3 / chance) << size;
  }
}

}  // namespace
