// SPDX-License-Identifier: Apache-2.0
//
// Keeps the shared object that contains the allocator (perhaps a plugin that it is linked into) from being unloaded,
// because the C library calls it at the end of every thread and at every fork.
#ifndef HAKMEM_API_PIN_H_
#define HAKMEM_API_PIN_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// Call it from the object's constructor: the thread then holds the dynamic linker's lock, and no lock of the allocator.
void hak_pin_object(void);

HAK_C_END

#endif  // HAKMEM_API_PIN_H_
