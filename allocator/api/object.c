// SPDX-License-Identifier: Apache-2.0
//
// Questions about the shared object that contains an address.
#include "allocator/api/object.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>

#include "allocator/os/bytes.h"

#ifdef __GLIBC__

// Weak: a static program has no dynamic linker, and before glibc 2.34 the function is in a separate library, which is
// loaded in every program that loads objects itself.
#pragma weak dladdr1

static const struct link_map *object_of(const void *address) {
  Dl_info info;
  void *extra = NULL;
  if (dladdr1 == NULL || dladdr1(address, &info, &extra, RTLD_DL_LINKMAP) == 0) return NULL;
  return extra;
}

const char *hak_object_name(const void *address) {
  const struct link_map *const object = object_of(address);
  return object != NULL ? object->l_name : NULL;
}

// The relocations that store a symbol's address, before any code of the object runs.
#if defined(__x86_64__)
#define STORES_ADDRESS(type) ((type) == R_X86_64_64 || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define STORES_ADDRESS(type) ((type) == R_AARCH64_ABS64 || (type) == R_AARCH64_GLOB_DAT)
#else
#define STORES_ADDRESS(type) ((void)(type), false)
#endif

const void *hak_object_binding(const void *address, const char *symbol) {
  const struct link_map *const object = object_of(address);
  if (object == NULL) return NULL;
  uintptr_t table = 0, symbols = 0, names = 0;
  size_t bytes = 0;
  for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++) {
    switch (entry->d_tag) {
      case DT_RELA:
        table = entry->d_un.d_ptr;
        break;
      case DT_RELASZ:
        bytes = entry->d_un.d_val;
        break;
      case DT_SYMTAB:
        symbols = entry->d_un.d_ptr;
        break;
      case DT_STRTAB:
        names = entry->d_un.d_ptr;
        break;
      default:
        break;
    }
  }
  if (table == 0 || symbols == 0 || names == 0) return NULL;
  // The dynamic linker has replaced these offsets by addresses, unless it could not write to the object's list.
  const uintptr_t base = object->l_addr;
  const ElfW(Rela) *const first = (const ElfW(Rela) *)(table < base ? base + table : table);
  const ElfW(Sym) *const symbol_table = (const ElfW(Sym) *)(symbols < base ? base + symbols : symbols);
  const char *const strings = (const char *)(names < base ? base + names : names);
  for (size_t i = 0; i < bytes / sizeof *first; i++) {
    if (!STORES_ADDRESS(ELF64_R_TYPE(first[i].r_info)) || first[i].r_addend != 0) continue;
    const ElfW(Sym) *const used = &symbol_table[ELF64_R_SYM(first[i].r_info)];
    if (hak_text_is(strings + used->st_name, symbol)) return *(const void *const *)(base + first[i].r_offset);
  }
  return NULL;
}

#else

#pragma weak dladdr

const char *hak_object_name(const void *address) {
  Dl_info info;
  return dladdr != NULL && dladdr(address, &info) != 0 ? info.dli_fname : NULL;
}

const void *hak_object_binding(const void *address, const char *symbol) {
  (void)address;
  (void)symbol;
  return NULL;
}

#endif
