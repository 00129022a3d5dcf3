// SPDX-License-Identifier: Apache-2.0
//
// Whether memory can be read, without a fault if it cannot.
#ifndef HAKMEM_OS_READABLE_H_
#define HAKMEM_OS_READABLE_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Whether the eight bytes at `address` can be read at this moment. Changes nothing, takes no lock, preserves errno. An
// emulator may say yes to every address; a filter that refuses the call makes it say no.
bool hak_os_is_readable(const void *address);

HAK_C_END

#endif  // HAKMEM_OS_READABLE_H_
