// SPDX-License-Identifier: Apache-2.0
//
// A library that is initialised before all others, hakmem too (-z initfirst), and loads a plugin meanwhile.
#include <dlfcn.h>
#include <stdlib.h>

__attribute__((visibility("default"))) void *early_plugin(void);

static void *plugin;

void *early_plugin(void) { return plugin; }

__attribute__((constructor)) static void start(int argc, char **argv, char **environment) {
  (void)environment;
  // The host's last argument: the C library has no environment yet.
  plugin = dlopen(argv[argc - 1], RTLD_NOW | RTLD_DEEPBIND);
}
