// SPDX-License-Identifier: Apache-2.0
//
// What the wrappers of hook.c and hook_memory.c share.
#ifndef HAKMEM_TEST_KERNEL_HOOK_H_
#define HAKMEM_TEST_KERNEL_HOOK_H_

#define EXPORT __attribute__((visibility("default")))

// Allocates if the environment chooses this function, and unless the calling thread does so already. It calls no
// function that is wrapped.
void hook_allocate(const char *name);

#endif  // HAKMEM_TEST_KERNEL_HOOK_H_
