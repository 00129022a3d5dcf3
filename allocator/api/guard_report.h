// SPDX-License-Identifier: Apache-2.0
//
// A line about an access to a guard page or to a freed block (OBSERVE and HARDENED). The process then ends by SIGSEGV,
// as it would without the line.
#ifndef HAKMEM_API_GUARD_REPORT_H_
#define HAKMEM_API_GUARD_REPORT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Handles SIGSEGV from now on, unless HAKMEM_GUARD_REPORT is 0 or the signal has not its default action. At the start,
// when the settings are resolved.
void hak_guard_report_start(void);

HAK_C_END

#endif  // HAKMEM_API_GUARD_REPORT_H_
