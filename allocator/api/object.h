// SPDX-License-Identifier: Apache-2.0
//
// Questions about the shared object that contains an address. The answers may wait for the dynamic linker's lock.
#ifndef HAKMEM_API_OBJECT_H_
#define HAKMEM_API_OBJECT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

// The name by which dlopen(name, RTLD_NOLOAD) finds the object; "" for the program itself, NULL if there is no object
// or no dynamic linker. It stays valid as long as the object is loaded, and is the same pointer for all its addresses.
const char *hak_object_name(const void *address);

// The address to which the object's references to the data or function `symbol` were bound when it was loaded: in the
// object itself, or in another one that defines `symbol` too. NULL if it has no references by that name, or only calls.
// The object must stay loaded during the call.
const void *hak_object_binding(const void *address, const char *symbol);

HAK_C_END

#endif  // HAKMEM_API_OBJECT_H_
