// SPDX-License-Identifier: Apache-2.0
//
// The tables of the loaded file that contains an address. From glibc 2.35 on, the dynamic linker finds the file without
// a lock (_dl_find_object). Elsewhere a list of our own does, which is made when no lock is held and malloc is not
// running: the dynamic linker's lock, which dl_iterate_phdr takes, may be held by a thread that waits in malloc.
#ifndef HAKMEM_PROF_MODULES_H_
#define HAKMEM_PROF_MODULES_H_

#include "allocator/os/base.h"
#include "allocator/prof/cfi.h"

HAK_C_BEGIN

// False: no loaded file contains `pc`, or it has no tables. Takes no lock.
bool hak_module_tables(uintptr_t pc, struct hak_cfi_tables *tables);
// The path of the loaded file that contains the address, "" for the program's own, and by how much its addresses were
// moved. False: no file contains it, or the dynamic linker cannot be asked without a lock. Takes no lock.
bool hak_module_file(uintptr_t pc, const char **path, uintptr_t *bias);
// Brings the list up to date where there must be one. Hold no lock; not within malloc.
void hak_modules_refresh(void);

// For tests: whether the list is used although the dynamic linker could be asked.
void hak_modules_use_list(bool use);

HAK_C_END

#endif  // HAKMEM_PROF_MODULES_H_
