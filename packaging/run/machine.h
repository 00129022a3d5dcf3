// SPDX-License-Identifier: Apache-2.0
//
// The processor that hakmem-run and its library are for.
#ifndef HAKMEM_PACKAGING_RUN_MACHINE_H_
#define HAKMEM_PACKAGING_RUN_MACHINE_H_

#include <elf.h>

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#define OUR_MACHINE_NAME "x86-64"
#define OUR_MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#define OUR_MACHINE_NAME "aarch64"
#define OUR_MULTIARCH "aarch64-linux-gnu"
#else
#error "hakmem runs on x86-64 and aarch64"
#endif

#endif  // HAKMEM_PACKAGING_RUN_MACHINE_H_
