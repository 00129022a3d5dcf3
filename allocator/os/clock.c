// SPDX-License-Identifier: Apache-2.0
//
// Finds the clock in the vDSO, and reads it.
#include "allocator/os/clock.h"

#include <elf.h>
#include <errno.h>

#include "allocator/os/atomic.h"
#include "allocator/os/auxv.h"
#include "allocator/os/bytes.h"
#include "allocator/os/sys_call.h"

#if defined(__x86_64__)
#define FUNCTION "__vdso_clock_gettime"
#else
#define FUNCTION "__kernel_clock_gettime"
#endif

typedef int clock_function(clockid_t, struct timespec *);

// ---- Symbol lookup in an image ------------------------------------------------------------------

struct image {
  const char *base;  // what is at address 0 of the image
  const Elf64_Sym *symbols;
  const char *names;
  const uint32_t *hash;      // DT_HASH
  const uint32_t *gnu_hash;  // DT_GNU_HASH
};

// The number of symbols, which only the hash table gives.
static uint32_t symbol_count(const struct image *image) {
  if (image->hash != NULL) return image->hash[1];
  if (image->gnu_hash == NULL) return 0;
  const uint32_t buckets = image->gnu_hash[0];
  const uint32_t first = image->gnu_hash[1];
  const uint32_t words = image->gnu_hash[2];
  const uint32_t *const bucket = image->gnu_hash + 4 + (size_t)2 * words;
  const uint32_t *const chain = bucket + buckets;
  uint32_t last = 0;
  for (uint32_t i = 0; i < buckets; i++) last = bucket[i] > last ? bucket[i] : last;
  if (last < first) return first;
  // The lowest bit marks the end of a bucket.
  while ((chain[last - first] & 1) == 0) last++;
  return last + 1;
}

static bool open_image(const char *start, struct image *image) {
  const Elf64_Ehdr *const header = (const void *)start;
  if (!hak_text_begins(start, ELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64) return false;
  const Elf64_Phdr *const segments = (const void *)(start + header->e_phoff);
  const Elf64_Phdr *dynamic = NULL;
  image->base = NULL;
  for (uint32_t i = 0; i < header->e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD && image->base == NULL) {
      image->base = start + segments[i].p_offset - segments[i].p_vaddr;
    } else if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = &segments[i];
    }
  }
  if (image->base == NULL || dynamic == NULL) return false;
  image->symbols = NULL;
  image->names = NULL;
  image->hash = NULL;
  image->gnu_hash = NULL;
  for (const Elf64_Dyn *entry = (const void *)(start + dynamic->p_offset); entry->d_tag != DT_NULL; entry++) {
    const void *const there = image->base + entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB) image->symbols = there;
    if (entry->d_tag == DT_STRTAB) image->names = there;
    if (entry->d_tag == DT_HASH) image->hash = there;
    if (entry->d_tag == DT_GNU_HASH) image->gnu_hash = there;
  }
  return image->symbols != NULL && image->names != NULL;
}

void *hak_clock_find(const void *start, const char *name) {
  struct image image;
  if (start == NULL || !open_image(start, &image)) return NULL;
  const uint32_t count = symbol_count(&image);
  for (uint32_t i = 0; i < count; i++) {
    const Elf64_Sym *const symbol = &image.symbols[i];
    if (symbol->st_shndx == SHN_UNDEF || !hak_text_is(image.names + symbol->st_name, name)) continue;
    return (void *)((uintptr_t)image.base + symbol->st_value);
  }
  return NULL;
}

// ---- Reading ------------------------------------------------------------------------------------

#if HAK_SANITIZED

struct timespec hak_clock_read(clockid_t clock) {
  const int saved = errno;
  struct timespec now = {.tv_sec = 0, .tv_nsec = 0};
  clock_gettime(clock, &now);
  errno = saved;
  return now;
}

#else

// The address of the vDSO's function, masked by a key from the kernel's random bytes: an attacker who can write only
// one of the two words cannot choose the target of the next call. Relaxed: every thread stores the same.
static HAK_ATOMIC(uintptr_t) key;
static HAK_ATOMIC(uintptr_t) hidden;  // 0: not looked up yet. Release after the key, acquire before it.

static HAK_COLD void find_function(void) {
  // Without the function, make the system call.
  const uintptr_t function = (uintptr_t)hak_clock_find((const void *)hak_auxv(HAK_AUXV_VDSO), FUNCTION);
  uintptr_t random[2] = {0, 0};
  if (hak_auxv(HAK_AUXV_RANDOM) != 0) hak_bytes_copy(random, (const void *)hak_auxv(HAK_AUXV_RANDOM), sizeof random);
  // The C library uses both words unchanged for its own secrets. The lowest bit distinguishes the result from 0.
  const uintptr_t drawn = ((random[0] * 0x9E3779B97F4A7C15u) ^ (random[1] * 0xD6E8FEB86659FD93u)) | 1;
  atomic_store_explicit(&key, drawn, memory_order_relaxed);
  // Release: a thread that sees it sees the key.
  atomic_store_explicit(&hidden, function ^ drawn, memory_order_release);
}

struct timespec hak_clock_read(clockid_t clock) {
  // Acquire: pairs with the store in find_function().
  uintptr_t word = atomic_load_explicit(&hidden, memory_order_acquire);
  if (HAK_UNLIKELY(word == 0)) {
    find_function();
    word = atomic_load_explicit(&hidden, memory_order_acquire);
  }
  struct timespec now = {.tv_sec = 0, .tv_nsec = 0};
  clock_function *const function = (clock_function *)(word ^ atomic_load_explicit(&key, memory_order_relaxed));
  if (function == NULL || function(clock, &now) != 0) {
    hak_sys_call(SYS_clock_gettime, clock, (long)&now, 0, 0, 0, 0);
  }
  return now;
}

#endif  // HAK_SANITIZED
