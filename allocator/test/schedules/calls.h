// SPDX-License-Identifier: Apache-2.0
//
// Included after points.h in sources that make system calls without their lock: before each such call another thread
// may run, as between the unlocking and the call.
#ifndef HAKMEM_TEST_SCHEDULES_CALLS_H_
#define HAKMEM_TEST_SCHEDULES_CALLS_H_

#include "allocator/os/decommit.h"
#include "allocator/os/os.h"
#include "allocator/test/schedules/points.h"

// Where the page heap begins to grow must not differ between two runs of a plan.
#define hak_os_random() UINT64_C(0)

// Tells a test, if one asked for it (scheduler.h), and is a point.
void hak_test_call(const char *name);

#define hak_os_map(...) (hak_test_call("map"), hak_os_map(__VA_ARGS__))
#define hak_os_map_at(...) (hak_test_call("map"), hak_os_map_at(__VA_ARGS__))
#define hak_os_unmap(...) (hak_test_call("unmap"), hak_os_unmap(__VA_ARGS__))
#define hak_os_move_onto(...) (hak_test_call("move"), hak_os_move_onto(__VA_ARGS__))
#define hak_os_decommit(...) (hak_test_call("decommit"), hak_os_decommit(__VA_ARGS__))
#define hak_os_decommit_to_zero(...) (hak_test_call("decommit"), hak_os_decommit_to_zero(__VA_ARGS__))
#define hak_os_advise_huge(...) (hak_test_call("advise"), hak_os_advise_huge(__VA_ARGS__))
#define hak_os_split_huge(...) (hak_test_call("advise"), hak_os_split_huge(__VA_ARGS__))

#endif  // HAKMEM_TEST_SCHEDULES_CALLS_H_
