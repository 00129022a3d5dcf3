// SPDX-License-Identifier: Apache-2.0
//
// The kernel's number of the calling thread.
#ifndef HAKMEM_OS_THREAD_NUMBER_H_
#define HAKMEM_OS_THREAD_NUMBER_H_

#include "allocator/os/base.h"
#include "allocator/os/sys_call.h"

HAK_C_BEGIN

// gettid(2); 0 if a filter refuses the call.
HAK_INLINE uint32_t hak_thread_number(void) {
  const long number = hak_sys_gettid();
  return number > 0 ? (uint32_t)number : 0;
}

HAK_C_END

#endif  // HAKMEM_OS_THREAD_NUMBER_H_
