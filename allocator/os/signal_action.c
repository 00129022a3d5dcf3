// SPDX-License-Identifier: Apache-2.0
//
// Signal actions by the kernel's own calls.
#include "allocator/os/signal_action.h"

#include "allocator/os/fault.h"
#include "allocator/os/signal_mask.h"
#include "allocator/os/sys_call.h"

// The kernel's structure.
struct action {
  uintptr_t handler;
  unsigned long flags;
  uintptr_t restorer;
  hak_signal_set mask;
};

static bool set_action(int signal, const struct action *action, struct action *before) {
  return hak_sys_call(SYS_rt_sigaction, signal, (long)action, (long)before, sizeof(hak_signal_set), 0, 0) == 0;
}

bool hak_signal_is_ignored(int signal) {
  struct action now = {.handler = 0};
  return set_action(signal, NULL, &now) && now.handler == 1;  // SIG_IGN
}

void hak_signal_set_default(int signal) {
  const struct action by_default = {.handler = 0};  // SIG_DFL
  set_action(signal, &by_default, NULL);
}

bool hak_signal_send_again(siginfo_t *info) {
  const long process = hak_sys_getpid();
  const long thread = hak_sys_gettid();
  return hak_sys_call(SYS_rt_tgsigqueueinfo, process, thread, info->si_signo, (long)info, 0, 0) == 0;
}

#if HAK_SANITIZED
bool hak_signal_handle(int signal, void (*handler)(int signal, siginfo_t *info, void *context)) {
  (void)signal;
  (void)handler;
  return false;
}
#else
#if defined(__x86_64__)
// Where a handler returns to: it ends by rt_sigreturn (15). Debuggers and unwinders know the frame of a signal by
// exactly these instructions, and look at the byte in front of them too.
void hak_signal_return(void);
__asm__(
    ".pushsection .text.hak_signal_return, \"ax\", @progbits\n"
    ".globl hak_signal_return\n"
    ".hidden hak_signal_return\n"
    ".type hak_signal_return, @function\n"
    "nop\n"
    "hak_signal_return:\n"
    "movq $15, %rax\n"
    "syscall\n"
    ".size hak_signal_return, . - hak_signal_return\n"
    ".popsection\n");
#define RESTORER_FLAG 0x04000000ul
#define RESTORER ((uintptr_t)hak_signal_return)
#else
// The kernel's own, in the vDSO.
#define RESTORER_FLAG 0ul
#define RESTORER ((uintptr_t)0)
#endif

bool hak_signal_handle(int signal, void (*handler)(int signal, siginfo_t *info, void *context)) {
  struct action before = {.handler = 1};  // Not the default, if the kernel stores nothing.
  if (hak_fault_due(HAK_FAULT_ASK) || !set_action(signal, NULL, &before) || before.handler != 0) return false;
  const struct action ours = {.handler = (uintptr_t)handler,
                              .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | RESTORER_FLAG,
                              .restorer = RESTORER,
                              .mask = ~(hak_signal_set)0};
  return set_action(signal, &ours, NULL);
}
#endif
