// SPDX-License-Identifier: Apache-2.0
//
// What a signal does (rt_sigaction(2)), without the C library, whose functions other libraries wrap. Preserves errno.
#ifndef HAKMEM_OS_SIGNAL_ACTION_H_
#define HAKMEM_OS_SIGNAL_ACTION_H_

#include <signal.h>

#include "allocator/os/base.h"

HAK_C_BEGIN

// Makes `handler` the signal's handler, if the signal has its default action. It runs on the thread's alternate stack
// if there is one, every other signal is blocked meanwhile, and interrupted calls go on afterwards. False: the program,
// its parent (SIG_IGN) or a library has chosen another action, which stays; the kernel refuses; or a sanitizer is on,
// which has a handler of its own.
bool hak_signal_handle(int signal, void (*handler)(int signal, siginfo_t *info, void *context));

// Whether the signal is ignored (SIG_IGN).
bool hak_signal_is_ignored(int signal);

// Restores the signal's default action.
void hak_signal_set_default(int signal);

// In a handler: sends the signal once more to the calling thread, as it came, so that it has its effect when the
// handler returns. False: the kernel refuses.
bool hak_signal_send_again(siginfo_t *info);

HAK_C_END

#endif  // HAKMEM_OS_SIGNAL_ACTION_H_
