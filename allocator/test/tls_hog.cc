// SPDX-License-Identifier: Apache-2.0
//
// A library for dlopen_host whose 64 bytes of thread variables are initial-exec: it takes of the little room that the
// loader has for such libraries when they come by dlopen.
extern "C" {
__attribute__((visibility("default"))) int tls_user_touch(void);
}

namespace {

// Volatile, lest the compiler sees that nobody needs it.
thread_local volatile char t_hog[64] = {};

}  // namespace

int tls_user_touch() {
  t_hog[63] = 1;
  return t_hog[63];
}
