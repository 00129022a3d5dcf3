// SPDX-License-Identifier: Apache-2.0
//
// The list of loaded files while it is made: this program's dl_iterate_phdr looks at it after each file.
#include "allocator/prof/modules.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

namespace {

using Callback = int (*)(dl_phdr_info *, size_t, void *);

bool looks;
int depth;
int looks_made;
int found;

bool IsFound() {
  hak_cfi_tables tables;
  return hak_module_tables(reinterpret_cast<uintptr_t>(&IsFound), &tables);
}

struct Visit {
  Callback callback;
  void *context;
};

int LookAfter(dl_phdr_info *info, size_t size, void *context) {
  const Visit *visit = static_cast<Visit *>(context);
  const int result = visit->callback(info, size, visit->context);
  found += IsFound();
  // As another thread would.
  if (depth == 1) hak_modules_refresh();
  found += IsFound();
  looks_made++;
  return result;
}

TEST(Modules, NothingIsFoundInAListThatIsBeingMade) {
  hak_modules_use_list(true);
  hak_modules_refresh();
  EXPECT_TRUE(IsFound());
  looks = true;
  hak_modules_refresh();
  looks = false;
  EXPECT_GT(looks_made, 0);
  EXPECT_EQ(found, 0);
  EXPECT_TRUE(IsFound());
  hak_modules_use_list(false);
}

}  // namespace

extern "C" int dl_iterate_phdr(Callback callback, void *context) {
  static const auto next = reinterpret_cast<int (*)(Callback, void *)>(dlsym(RTLD_NEXT, "dl_iterate_phdr"));
  if (!looks) return next(callback, context);
  Visit visit = {callback, context};
  depth++;
  const int result = next(LookAfter, &visit);
  depth--;
  return result;
}
