// SPDX-License-Identifier: Apache-2.0
#include "allocator/meta/address_table.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "allocator/os/fault.h"
#include "allocator/os/unit_test.h"

namespace {

using hak_unit::FaultPlan;
using hak_unit::Random;

const void *Address(uint64_t number) { return reinterpret_cast<const void *>(uintptr_t{number} << 12); }

TEST(AddressTable, IsEmptyAtFirst) {
  const hak_address_table table = {};
  EXPECT_EQ(hak_address_find(&table, Address(1)), nullptr);
  EXPECT_TRUE(hak_address_holds(&table));
}

TEST(AddressTable, AgreesWithAMap) {
  hak_address_table table = {};
  std::map<const void *, std::unique_ptr<hak_address_entry>> model;
  Random random(1);
  for (int i = 0; i < hak_unit::Operations(40000); i++) {
    // More entries are added than removed, so the table grows several times.
    const void *address = Address(1 + random.Below(3000));
    hak_address_entry **link = hak_address_find(&table, address);
    ASSERT_EQ(link != nullptr, model.count(address) == 1);
    if (link == nullptr) {
      ASSERT_TRUE(hak_address_reserve(&table));
      auto entry = std::make_unique<hak_address_entry>();
      entry->address = address;
      hak_address_insert(&table, entry.get());
      model[address] = std::move(entry);
    } else if (random.OneIn(3)) {
      EXPECT_EQ(hak_address_extract(&table, link), model[address].get());
      model.erase(address);
    } else {
      EXPECT_EQ(*link, model[address].get());
    }
    ASSERT_EQ(table.count, model.size());
  }
  EXPECT_TRUE(hak_address_holds(&table));
  EXPECT_GE(table.bucket_count, model.size() / 2);
}

TEST(AddressTable, GrowsInChainsWithoutMemory) {
  hak_address_table table = {};
  {
    const FaultPlan none(HAK_FAULT_ALL);
    hak_address_reserve(&table);  // It may succeed all the same, if there is room for records.
  }
  ASSERT_TRUE(hak_address_reserve(&table));
  const size_t buckets = table.bucket_count;
  std::vector<hak_address_entry> entries(1000);
  const FaultPlan none(HAK_FAULT_ALL);
  for (size_t i = 0; i < entries.size(); i++) {
    ASSERT_TRUE(hak_address_reserve(&table));
    entries[i].address = Address(i + 1);
    hak_address_insert(&table, &entries[i]);
  }
  EXPECT_GE(table.bucket_count, buckets);
  for (size_t i = 0; i < entries.size(); i++) {
    hak_address_entry **link = hak_address_find(&table, Address(i + 1));
    ASSERT_NE(link, nullptr);
    EXPECT_EQ(*link, &entries[i]);
  }
}

TEST(AddressTable, HoldsSeesWhatIsWrong) {
  hak_address_table table = {};
  ASSERT_TRUE(hak_address_reserve(&table));
  hak_address_entry entry = {};
  entry.address = Address(5);
  hak_address_insert(&table, &entry);
  EXPECT_TRUE(hak_address_holds(&table));
  table.count++;
  EXPECT_FALSE(hak_address_holds(&table));
  table.count--;
  // One of these two addresses is certainly in another bucket.
  entry.address = Address(6);
  const bool six = hak_address_holds(&table);
  entry.address = Address(7);
  EXPECT_FALSE(six && hak_address_holds(&table));
}

}  // namespace
