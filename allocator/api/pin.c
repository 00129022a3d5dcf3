// SPDX-License-Identifier: Apache-2.0
//
// Keeps the shared object that contains the allocator from being unloaded.
#include "allocator/api/pin.h"

#ifdef __GLIBC__
#include <dlfcn.h>
#include <errno.h>

#include "allocator/api/object.h"

// Weak: as in object.c.
#pragma weak dlopen
#pragma weak dlerror

void hak_pin_object(void) {
  if (dlopen == NULL) return;
  const int saved = errno;
  static const char here;
  const char *const object = hak_object_name(&here);
  // The program itself is never unloaded. The handle stays open. After a failure the message of dlerror is cleared.
  if (object != NULL && object[0] != '\0' && dlopen(object, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) == NULL &&
      dlerror != NULL) {
    (void)dlerror();  // NOLINT(concurrency-mt-unsafe): each thread has its own message
  }
  errno = saved;
}
#else
// musl never unloads an object.
void hak_pin_object(void) {}
#endif
