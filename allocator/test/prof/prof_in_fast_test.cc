// SPDX-License-Identifier: Apache-2.0
//
// FAST has no sampling, and says so.
#include <errno.h>
#include <gtest/gtest.h>
#include <hakmem/hakmem.h>
#include <hakmem/pprof.h>

namespace {

int Live(const hak_prof_sample *, void *) { return 1; }
int Stacks(const hak_prof_stack *, void *) { return 1; }
int Write(void *, const void *, size_t) { return 0; }

TEST(ProfInFast, IsNotThere) {
  EXPECT_EQ(hak_prof_start(), ENOTSUP);
  EXPECT_EQ(hak_prof_stop(), ENOTSUP);
  EXPECT_EQ(hak_prof_visit_live(Live, nullptr), ENOTSUP);
  EXPECT_EQ(hak_prof_visit_stacks(Stacks, nullptr), ENOTSUP);
  EXPECT_EQ(hak_prof_visit_live(nullptr, nullptr), EINVAL);
  EXPECT_EQ(hak_prof_visit_stacks(nullptr, nullptr), EINVAL);
  EXPECT_EQ(hak_prof_write(Write, nullptr), ENOTSUP);
  EXPECT_EQ(hak_prof_write(nullptr, nullptr), EINVAL);
  EXPECT_EQ(hak_prof_dump("not-made.pb.gz"), ENOTSUP);
  EXPECT_EQ(hak_prof_dump(nullptr), EINVAL);
  EXPECT_EQ(hak_prof_mark(), ENOTSUP);
}

}  // namespace
