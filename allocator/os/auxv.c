// SPDX-License-Identifier: Apache-2.0
//
// Reads the auxiliary vector.
#include "allocator/os/auxv.h"

#include <elf.h>
#include <errno.h>
#include <sys/auxv.h>

#include "allocator/os/atomic.h"
#include "allocator/os/file.h"
#include "allocator/os/sys_call.h"

// More than the kernel has ever passed (about 25 pairs).
#define PAIRS 64u

static const uint64_t types[HAK_AUXV_ENTRIES] = {
    [HAK_AUXV_PAGE_SIZE] = AT_PAGESZ,  [HAK_AUXV_SECURE] = AT_SECURE,  [HAK_AUXV_RANDOM] = AT_RANDOM,
    [HAK_AUXV_VDSO] = AT_SYSINFO_EHDR, [HAK_AUXV_PROGRAM] = AT_EXECFN,
};

// Relaxed: every thread that runs this stores the same values.
static HAK_ATOMIC(uintptr_t) values[HAK_AUXV_ENTRIES];
static HAK_ATOMIC(bool) known;  // release after the values, acquire before them

static uintptr_t find(const Elf64_auxv_t *vector, size_t count, uint64_t type) {
  for (size_t i = 0; i < count && vector[i].a_type != AT_NULL; i++) {
    if (vector[i].a_type == type) return (uintptr_t)vector[i].a_un.a_val;
  }
  return 0;
}

static HAK_COLD void learn(void) {
  Elf64_auxv_t vector[PAIRS];
  size_t count = 0;
  if (!HAK_SANITIZED) count = hak_os_read_file("/proc/self/auxv", vector, sizeof vector) / sizeof vector[0];
  const bool read = find(vector, count, AT_PAGESZ) != 0;
  const int saved = errno;
  for (uint32_t i = 0; i < HAK_AUXV_ENTRIES; i++) {
    const uintptr_t value = read ? find(vector, count, types[i]) : (uintptr_t)getauxval(types[i]);
    atomic_store_explicit(&values[i], value, memory_order_relaxed);
  }
  errno = saved;
  // Release: a thread that reads true sees the values.
  atomic_store_explicit(&known, true, memory_order_release);
}

uintptr_t hak_auxv(enum hak_auxv_entry entry) {
  // Acquire: pairs with the store in learn().
  if (HAK_UNLIKELY(!atomic_load_explicit(&known, memory_order_acquire))) learn();
  return atomic_load_explicit(&values[entry], memory_order_relaxed);
}
