// SPDX-License-Identifier: Apache-2.0
//
// Keeps the shared object that the allocator is in, a plugin perhaps that it was linked into, from being unloaded: the
// C library calls back into it at every thread's end and at every fork.
#ifndef HAKMEM_API_PIN_H_
#define HAKMEM_API_PIN_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// From the object's constructor: the loader's lock is this thread's, and no lock is held.
void hak_pin_object(void);

HAK_C_END

#endif  // HAKMEM_API_PIN_H_
