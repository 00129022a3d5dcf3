// SPDX-License-Identifier: Apache-2.0
//
// The reader of a control group's memory limits (allocator/os/cgroup.h), on generated files, against a naive reader.
//
// An input is text in parts between NUL bytes: the contents of /proc/self/cgroup, then memory.high and memory.max of
// the mount point and of two groups in it, /a and /a/b (six files). An empty part is a missing file.
#ifndef HAKMEM_FUZZ_CGROUP_ENGINE_H_
#define HAKMEM_FUZZ_CGROUP_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/os/cgroup.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct CgroupCalls {
  uint64_t (*limit_in)(const char *mount, const char *membership) = hak_os_cgroup_limit_in;
  uint64_t (*limit)() = hak_os_cgroup_limit;
};

// Runs one input, on temporary files below /tmp; throws what is wrong (fuzz_target.h).
void RunCgroupInput(const CgroupCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_CGROUP_ENGINE_H_
