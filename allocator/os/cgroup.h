// SPDX-License-Identifier: Apache-2.0
//
// The memory limit of the process's control group (cgroup v2, Documentation/admin-guide/cgroup-v2.rst of Linux).
#ifndef HAKMEM_OS_CGROUP_H_
#define HAKMEM_OS_CGROUP_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The lowest memory.high or memory.max, in bytes, of the process's group and all its parents; 0: there is none, or the
// files cannot be read. Reads some files; preserves errno. One thread at a time.
uint64_t hak_os_cgroup_limit(void);

// The same for a group: `mount` is where the hierarchy is mounted, `membership` the text of /proc/PID/cgroup. A path of
// 1024 bytes or more is not followed.
uint64_t hak_os_cgroup_limit_in(const char *mount, const char *membership);

HAK_C_END

#endif  // HAKMEM_OS_CGROUP_H_
