// SPDX-License-Identifier: Apache-2.0
//
// A library for dlopen_host with 64 bytes of initial-exec thread variables. It uses up some of the little room that the
// dynamic linker has for such libraries loaded by dlopen.
extern "C" {
__attribute__((visibility("default"))) int tls_user_touch(void);
}

namespace {

// Volatile, so that the compiler does not remove it.
thread_local volatile char t_hog[64] = {};

}  // namespace

int tls_user_touch() {
  t_hog[63] = 1;
  return t_hog[63];
}
