// SPDX-License-Identifier: Apache-2.0
//
// The reader of call frame information (allocator/prof/cfi.h), on any bytes: it reads nothing outside them, and what it
// finds keeps its promises.
//
// An input is two bytes and a table. The first byte says where the index of the table begins, and the second one which
// functions are looked for.
#ifndef HAKMEM_FUZZ_CFI_ENGINE_H_
#define HAKMEM_FUZZ_CFI_ENGINE_H_

#include <stddef.h>
#include <stdint.h>

#include "allocator/prof/cfi.h"
#include "allocator/prof/cfi_frame.h"

namespace hak_fuzz {

// The functions under test; controls replace one of them.
struct CfiCalls {
  decltype(&hak_cfi_entry) entry = hak_cfi_entry;
  decltype(&hak_cfi_rule_of) rule_of = hak_cfi_rule_of;
  decltype(&hak_frame_step) step = hak_frame_step;
};

// Runs one input; throws what is wrong (fuzz_target.h).
void RunCfiInput(const CfiCalls &calls, const uint8_t *data, size_t size);

}  // namespace hak_fuzz

#endif  // HAKMEM_FUZZ_CFI_ENGINE_H_
