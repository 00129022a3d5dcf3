// SPDX-License-Identifier: Apache-2.0
//
// A program that was written for tcmalloc's MallocExtension: only the line of the include is new.
#include <hakmem/compat/tcmalloc.h>
#include <stdio.h>

#include <vector>

int main() {
  MallocExtension *const extension = MallocExtension::instance();
  const std::vector<char> bytes(1000000);
  size_t live = 0;
  if (!extension->GetNumericProperty("generic.current_allocated_bytes", &live)) return 1;
  printf("%zu bytes are allocated\n", live);
  const bool own = extension->GetOwnership(bytes.data()) == MallocExtension::kOwned;
  extension->ReleaseFreeMemory();
  return live >= bytes.size() && own && extension->GetAllocatedSize(bytes.data()) >= bytes.size() ? 0 : 1;
}
