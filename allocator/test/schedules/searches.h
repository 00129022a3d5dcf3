// SPDX-License-Identifier: Apache-2.0
//
// What the tests of all boxes do with their program: search it, repeat a search, and search for a planted race.
#ifndef HAKMEM_TEST_SCHEDULES_SEARCHES_H_
#define HAKMEM_TEST_SCHEDULES_SEARCHES_H_

#include <gtest/gtest.h>
#include <stdint.h>
#include <stdio.h>

#include <string>
#include <utility>
#include <vector>

#include "allocator/test/schedules/races.h"
#include "allocator/test/schedules/scheduler.h"
#include "allocator/test/test_random.h"

namespace hak_schedules {

constexpr uint32_t kMostChanges = 3;

// Takes any element out.
template <typename Element>
Element Remove(hak_test::Random *random, std::vector<Element> *from) {
  std::swap((*from)[random->Index(from->size())], from->back());
  const Element element = from->back();
  from->pop_back();
  return element;
}

// Makes a new state, runs threads on it by the plan, and checks what is left.
using Program = Result (*)(const Plan &plan);

inline void SearchFindsNothing(Program program, uint32_t schedules) {
  const auto count = static_cast<uint32_t>(hak_test::Scaled(schedules));
  const Found found = Explore(Search{hak_test::TestSeed(1), count, kMostChanges}, program);
  EXPECT_FALSE(found.failed) << "in schedule " << found.schedules;
  printf("%u schedules of up to %llu points\n", found.schedules, static_cast<unsigned long long>(found.longest));
}

inline void SameSeedGivesTheSameRun(Program program) {
  const Search search{hak_test::TestSeed(2), 200, kMostChanges};
  const Found one = Explore(search, program);
  const Found same = Explore(search, program);
  EXPECT_EQ(one.digest, same.digest);
  Search next = search;
  next.seed++;
  EXPECT_NE(one.digest, Explore(next, program).digest);
}

struct Planted {
  const char *name;
  enum hak_test_race race;
  uint32_t within;  // schedules: ten times as many as the slowest of the measured seeds needed, or more
};
inline std::string NameOf(const testing::TestParamInfo<Planted> &of) { return of.param.name; }

inline void PlantedRaceIsFound(Program program, const Planted &planted) {
  const Search search{hak_test::TestSeed(10 + planted.race), planted.within, kMostChanges, planted.race};
  const Found found = Explore(search, program);
  EXPECT_TRUE(found.failed) << "not within " << found.schedules << " schedules";
  printf("%s: found by schedule %u\n", planted.name, found.schedules);
}

// So what finds it is the interleaving.
inline void PlantedRaceIsNotThereInOrder(Program program, const Planted &planted) {
  const Search search{hak_test::TestSeed(50 + planted.race), 200, 0, planted.race};
  const Found found = Explore(search, program);
  EXPECT_FALSE(found.failed) << "in schedule " << found.schedules;
}

}  // namespace hak_schedules

#endif  // HAKMEM_TEST_SCHEDULES_SEARCHES_H_
