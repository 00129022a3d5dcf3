// SPDX-License-Identifier: Apache-2.0
//
// The reader of a control group's memory limits (allocator/os/cgroup.h), on made-up files, against a naive one.
//
// An input is text in parts between NUL bytes: what /proc/self/cgroup says, then for the mount point and two groups in
// it, /a and /a/b, memory.high and memory.max (six files). An empty part is a file that is not there.
#ifndef HAKMEM_FUZZ_CGROUP_ENGINE_H_
#define HAKMEM_FUZZ_CGROUP_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/os/cgroup.h"

namespace hak_fuzz {

// What is tested; controls put something wrong in a place.
struct CgroupCalls {
  uint64_t (*limit_in)(const char *mount, const char *membership) = hak_os_cgroup_limit_in;
  uint64_t (*limit)() = hak_os_cgroup_limit;
};

// Runs one input, on files below /tmp that are gone afterwards; what is wrong it throws (fuzz_target.h).
void RunCgroupInput(const CgroupCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_CGROUP_ENGINE_H_
