// SPDX-License-Identifier: Apache-2.0
//
// Short scripts of calls to the allocator, run in a new process while a fault plan makes system calls fail. A request
// may then return NULL with ENOMEM, and nothing else may go wrong: live blocks keep their contents and the heap
// verifies. Once system calls succeed again, requests succeed too, and the accounts end as they do without faults.
#ifndef HAKMEM_ALLOCATOR_TESTS_FAULT_SCRIPTS_H_
#define HAKMEM_ALLOCATOR_TESTS_FAULT_SCRIPTS_H_

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "allocator/os/fault.h"
#include "allocator/test/allocator_api.h"
#include "allocator/test/subprocess.h"

namespace hak_test {

inline constexpr uint64_t kForEver = UINT64_MAX;

// Which calls of a script are let fail, each in a run of its own: the first one, then each `step`-th from a random one
// on, so that many runs try them all.
class CallsToFail {
 public:
  CallsToFail(uint64_t step, uint64_t random) : step_(step), second_(2 + random % step) {}
  uint64_t After(uint64_t nth) const { return nth < second_ ? second_ : nth + step_; }

 private:
  const uint64_t step_;
  const uint64_t second_;
};

// How system calls are made to fail while a script runs: by the fault plan, or from outside (kernel/call_supervisor.h).
struct Faults {
  std::function<void()> begin;
  // From now on they succeed, and hits() is 0.
  std::function<void()> end;
  std::function<uint64_t()> hits;  // how many have failed
};

// Makes the calls of a script and checks them. A violation is written to stderr and recorded.
class Checked {
 public:
  struct Held {
    unsigned char *p = nullptr;
    size_t size = 0;
    unsigned char tag = 0;
  };

  explicit Checked(const AllocatorApi &api, std::function<uint64_t()> hits = hak_fault_hits)
      : api_(api), hits_(std::move(hits)) {}

  void Wrong(const char *what, size_t size);
  bool wrong() const { return wrong_; }
  size_t nulls() const { return nulls_; }
  const std::vector<Held> &held() const { return held_; }

  void Malloc(size_t size);
  void Calloc(size_t size);
  void Aligned(size_t alignment, size_t size);
  void Realloc(size_t index, size_t size);
  void InPlace(size_t index, size_t size);
  void FreeLast();
  void FreeEvery(size_t step);
  void FreeAllBut(size_t step);
  void FlushAndTrim();
  void Verify();
  // hak_config_set: success, or an error of those that a system call that fails may cause.
  void Set(const char *name, const char *value);
  // Statistics and a visit show the live blocks, if nobody else has any.
  void Count();
  // Behind fork or clone, whose result is `child`: the child runs `body` and ends by _exit, or with `by_exit` by exit;
  // the parent waits for it. What is wrong in the child is wrong here.
  void InChild(long child, const std::function<void()> &body, bool by_exit = false);

 private:
  void Null(size_t size, int error);
  void Take(void *p, size_t size, int error);
  void Check(const Held &held);
  void Free(const Held &held);

  AllocatorApi api_;
  std::function<uint64_t()> hits_;
  std::vector<Held> held_;
  size_t nulls_ = 0;
  unsigned char next_tag_ = 0;
  bool wrong_ = false;
};

struct Script {
  const char *name;
  void (*run)(Checked *heap);
  bool threads = false;  // whether the script starts threads
};

inline void PrintTo(const Script &script, std::ostream *out) { *out << script.name; }

// Scripts of blocks and threads; of what happens to the whole process; and one by its name. An unknown name ends the
// test.
const std::vector<Script> &Scripts();
const std::vector<Script> &ProcessScripts();
const Script &ScriptNamed(const std::string &name);

struct Plan {
  uint32_t kinds = 0;
  uint64_t nth = UINT64_MAX;
  uint64_t count = 1;
};

// What remains at the end of a run, after all blocks were freed and a trim.
struct Accounts {
  unsigned long long live_blocks = 0, live_bytes = 0, large_blocks = 0, cached_blocks = 0;
  unsigned long long slabs_used = 0, superslabs = 0, committed = 0, mapped = 0, metadata = 0;
};
std::string Text(const Accounts &accounts);
// How the accounts of a run with faults differ from those of a run without. Empty: they are correct.
std::string Difference(const Accounts &faulty, const Accounts &usual);

struct Result {
  bool good = false;
  uint64_t hits = 0;  // calls that the plan made fail
  size_t nulls = 0;
  Accounts accounts;
  Outcome outcome;
};

// What the process under test does: runs the script while calls fail, then makes requests that must succeed, then ends.
// Writes the fields of Result to stdout; returns the exit code.
int RunScript(const Script &script, const Faults &faults, const AllocatorApi &api);
// The same under the fault plans.
int RunScript(const Script &script, const Plan &plan, const Plan &second, const AllocatorApi &api);
// Reads that output.
Result ResultOf(const Outcome &outcome);

Result RunPlan(const Script &script, const Plan &plan, const AllocatorApi &api = AllocatorApi{},
               const Plan &second = Plan{});

}  // namespace hak_test

#endif  // HAKMEM_ALLOCATOR_TESTS_FAULT_SCRIPTS_H_
