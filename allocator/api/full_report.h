// SPDX-License-Identifier: Apache-2.0
//
// What follows the last line with HAKMEM_REPORT=full: the stack of the faulting call, the stack that allocated the
// block if it is sampled, and the bytes at the block's end. Bounded; allocates nothing; ends within about a second,
// also if nobody reads stderr.
#ifndef HAKMEM_API_FULL_REPORT_H_
#define HAKMEM_API_FULL_REPORT_H_

#include "allocator/os/report.h"

HAK_C_BEGIN

// Writes it in the handler of a signal, whose third argument is `context`, if HAKMEM_REPORT is full. The calling thread
// waits for no lock from then on.
void hak_full_report(const void *context, const struct hak_report_subject *subject);

// With HAKMEM_REPORT=full: handles SIGABRT from now on, unless the signal has not its default action. At the start,
// when the settings are resolved.
void hak_full_report_start(void);

HAK_C_END

#endif  // HAKMEM_API_FULL_REPORT_H_
