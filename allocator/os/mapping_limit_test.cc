// SPDX-License-Identifier: Apache-2.0
#include "allocator/os/mapping_limit.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <fstream>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"

namespace {

TEST(MappingLimit, IsTheNumberInTheFile) {
  EXPECT_EQ(hak_os_mapping_limit_of("65530\n"), 65530u);
  EXPECT_EQ(hak_os_mapping_limit_of("1048576"), 1048576u);
  EXPECT_EQ(hak_os_mapping_limit_of("2147483647\n"), 2147483647u);
}

TEST(MappingLimit, IsTheDefaultWhereThereIsNoNumber) {
  for (const char *text : {"", "\n", "0\n", "max\n", "-5\n", " 12"}) {
    EXPECT_EQ(hak_os_mapping_limit_of(text), HAK_OS_MAPPING_LIMIT_DEFAULT) << text;
  }
}

TEST(MappingLimit, DoesNotOverflow) {
  EXPECT_EQ(hak_os_mapping_limit_of("2147483648"), 2147483647u);
  EXPECT_EQ(hak_os_mapping_limit_of("99999999999999999999999"), 2147483647u);
}

TEST(MappingLimit, IsThatOfTheKernel) {
  std::ifstream file("/proc/sys/vm/max_map_count");
  uint64_t number = 0;
  if (!(file >> number)) GTEST_SKIP() << "the kernel does not tell";
  errno = E2BIG;
  EXPECT_EQ(hak_os_mapping_limit(), number);
  EXPECT_EQ(errno, E2BIG);
}

TEST(MappingLimit, IsTheDefaultWhenTheFileCannotBeRead) {
  const hak_unit::FaultPlan plan(HAK_FAULT_ASK);
  errno = E2BIG;
  EXPECT_EQ(hak_os_mapping_limit(), HAK_OS_MAPPING_LIMIT_DEFAULT);
  EXPECT_EQ(errno, E2BIG);
}

}  // namespace
