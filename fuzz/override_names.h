// SPDX-License-Identifier: Apache-2.0
//
// The functions of the override as named in //allocator/api:override_renamed: with the prefix hak_renamed_.
#ifndef HAKMEM_FUZZ_OVERRIDE_NAMES_H_
#define HAKMEM_FUZZ_OVERRIDE_NAMES_H_

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

struct nothrow;  // std::nothrow_t, under its name in the library's C code

extern "C" {
void *hak_renamed_malloc(size_t size);
void *hak_renamed_calloc(size_t count, size_t size);
void *hak_renamed_realloc(void *ptr, size_t size);
void *hak_renamed_reallocarray(void *ptr, size_t count, size_t size);
void hak_renamed_free(void *ptr);
void hak_renamed_cfree(void *ptr);
void hak_renamed_free_sized(void *ptr, size_t size);
void hak_renamed_free_aligned_sized(void *ptr, size_t alignment, size_t size);
void *hak_renamed_aligned_alloc(size_t alignment, size_t size);
void *hak_renamed_memalign(size_t alignment, size_t size);
int hak_renamed_posix_memalign(void **out, size_t alignment, size_t size);
void *hak_renamed_valloc(size_t size);
void *hak_renamed_pvalloc(size_t size);
size_t hak_renamed_malloc_usable_size(void *ptr);
int hak_renamed_malloc_trim(size_t pad);
void hak_renamed_malloc_stats(void);
int hak_renamed_mallopt(int parameter, int value);
#if __GLIBC_PREREQ(2, 33)
struct mallinfo2 hak_renamed_mallinfo2(void);
#endif
struct mallinfo hak_renamed_mallinfo(void);
int hak_renamed_malloc_info(int options, FILE *stream);
void *hak_renamed___libc_malloc(size_t size);
void *hak_renamed___libc_calloc(size_t count, size_t size);
void *hak_renamed___libc_realloc(void *ptr, size_t size);
void hak_renamed___libc_free(void *ptr);
void *hak_renamed___libc_memalign(size_t alignment, size_t size);
void *hak_renamed___libc_valloc(size_t size);
void *hak_renamed___libc_pvalloc(size_t size);

void *hak_renamed__Znwm(size_t size);
void *hak_renamed__Znam(size_t size);
void *hak_renamed__ZnwmRKSt9nothrow_t(size_t size, const nothrow *tag);
void *hak_renamed__ZnamRKSt9nothrow_t(size_t size, const nothrow *tag);
void *hak_renamed__ZnwmSt11align_val_t(size_t size, size_t align);
void *hak_renamed__ZnamSt11align_val_t(size_t size, size_t align);
void *hak_renamed__ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow *tag);
void *hak_renamed__ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const nothrow *tag);
void hak_renamed__ZdlPv(void *ptr);
void hak_renamed__ZdaPv(void *ptr);
void hak_renamed__ZdlPvm(void *ptr, size_t size);
void hak_renamed__ZdaPvm(void *ptr, size_t size);
void hak_renamed__ZdlPvRKSt9nothrow_t(void *ptr, const nothrow *tag);
void hak_renamed__ZdaPvRKSt9nothrow_t(void *ptr, const nothrow *tag);
void hak_renamed__ZdlPvmRKSt9nothrow_t(void *ptr, size_t size, const nothrow *tag);
void hak_renamed__ZdaPvmRKSt9nothrow_t(void *ptr, size_t size, const nothrow *tag);
void hak_renamed__ZdlPvSt11align_val_t(void *ptr, size_t align);
void hak_renamed__ZdaPvSt11align_val_t(void *ptr, size_t align);
void hak_renamed__ZdlPvmSt11align_val_t(void *ptr, size_t size, size_t align);
void hak_renamed__ZdaPvmSt11align_val_t(void *ptr, size_t size, size_t align);
void hak_renamed__ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const nothrow *tag);
void hak_renamed__ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t align, const nothrow *tag);
}

#endif  // HAKMEM_FUZZ_OVERRIDE_NAMES_H_
