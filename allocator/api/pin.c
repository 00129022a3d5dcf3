// SPDX-License-Identifier: Apache-2.0
//
// Keeps the shared object that contains the allocator from being unloaded.
#include "allocator/api/pin.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>

#ifdef __GLIBC__
// Weak: a static program has no dynamic linker, and before glibc 2.34 these functions are in a separate library, which
// is loaded in every program that can unload this object.
#pragma weak dladdr1
#pragma weak dlopen
#pragma weak dlerror

void hak_pin_object(void) {
  if (dladdr1 == NULL || dlopen == NULL) return;
  const int saved = errno;
  static const char here;
  Dl_info info;
  void *extra = NULL;
  if (dladdr1(&here, &info, &extra, RTLD_DL_LINKMAP) != 0 && extra != NULL) {
    const struct link_map *const object = extra;
    // The program itself has no name, and is never unloaded. The handle stays open. After a failure the message of
    // dlerror is cleared.
    if (object->l_name[0] != '\0' && dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE) == NULL &&
        dlerror != NULL) {
      (void)dlerror();  // NOLINT(concurrency-mt-unsafe): each thread has its own message
    }
  }
  errno = saved;
}
#else
// musl never unloads an object.
void hak_pin_object(void) {}
#endif
