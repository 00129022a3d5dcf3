// SPDX-License-Identifier: Apache-2.0
//
// Memory limit: whether more memory may be committed. The hard limit is the operator's (HAKMEM_MEMORY_LIMIT_MB); the
// soft limit is 7/8 of it, 7/8 of the control group's, or HAKMEM_SOFT_LIMIT_MB, whichever is lowest. Before growth
// beyond the soft limit free memory is returned; growth beyond the hard limit is refused.
//
// The decision is pure. The account beside it counts the committed bytes: slabs that may be resident, live and cached
// mappings, and records.
#ifndef HAKMEM_POLICY_MEMORY_LIMIT_H_
#define HAKMEM_POLICY_MEMORY_LIMIT_H_

#include "allocator/os/atomic.h"
#include "allocator/os/base.h"

HAK_C_BEGIN

struct hak_limit_facts {
  uint64_t committed;  // bytes now
  uint64_t more;       // bytes that are requested
  uint64_t purge_at;   // committed bytes beyond which free memory is returned first; UINT64_MAX: none
  uint64_t hard;       // the most that may be committed; 0: no limit
};

enum hak_limit_verdict {
  HAK_LIMIT_GROW,
  HAK_LIMIT_PURGE,   // return free memory, then ask again
  HAK_LIMIT_REFUSE,  // out of memory
};
enum hak_limit_verdict hak_limit_judge(const struct hak_limit_facts *facts);

// Whether the growth comes near a limit: it passes the soft limit, `purge_at`, and the hard limit admits it.
bool hak_limit_is_near(const struct hak_limit_facts *facts);

// The committed bytes beyond which free memory is returned before growth: 7/8 of the lower one of the hard limit and
// the control group's, but no more than the `setting` (0: none of them), or UINT64_MAX when there is no limit.
uint64_t hak_limit_soft(uint64_t hard, uint64_t control_group, uint64_t setting);

// The committed bytes at which to purge next, after a purge left `committed` bytes and `more` are still needed: beyond
// both by a 32nd of them or of the soft limit, whichever is more, so that a heap near the limit does not purge at each
// step, and one that grows far beyond it purges ever more rarely; never below the soft limit.
uint64_t hak_limit_next_purge(uint64_t soft, uint64_t committed, uint64_t more);

// ---- The account: thread-safe, no lock ----------------------------------------------------------

void hak_commit_add(uint64_t bytes);
void hak_commit_sub(uint64_t bytes);
uint64_t hak_commit_now(void);

// Whether `more` bytes may be committed now. False: the caller must behave as if the kernel had refused.
bool hak_limit_admit(uint64_t more);
// Whether hak_limit_admit has refused the calling thread since this was last asked.
bool hak_limit_refused(void);
// Whether the soft limit does not hold for the calling thread's next growth: while a request is tried again after
// memory was returned for it. Otherwise it would fail where other threads took the room meanwhile, or where it takes
// more than was foreseen.
void hak_limit_exempt(bool exempt);
// Whether more is committed than HAKMEM_SOFT_LIMIT_MB.
bool hak_limit_is_beyond_setting(void);
// Whether `more` bytes could be committed now without returning memory first. Changes nothing.
bool hak_limit_has_room(uint64_t more);
// Call it when a limit in hak_config has changed: the next hak_limit_admit reads it.
void hak_limit_changed(void);
// Reads the control group's limit, if the setting allows it. Call it only at the start and when the program asks for
// it, since a sandbox may forbid opening files later. One thread at a time.
void hak_limit_read_group(void);
// Call it after free memory was returned to make room for `more` bytes; 0: and the request failed nevertheless.
void hak_limit_purged(uint64_t more);

struct hak_limit_totals {
  uint64_t soft;      // UINT64_MAX: none, or not determined yet
  uint64_t group;     // of the control group; 0: none, or not read
  uint64_t purges;    // times that memory was returned before growth
  uint64_t refusals;  // times that growth was refused
};
struct hak_limit_totals hak_limit_totals(void);

HAK_C_END

#endif  // HAKMEM_POLICY_MEMORY_LIMIT_H_
