// SPDX-License-Identifier: Apache-2.0
//
// Advice to the kernel about memory that stays mapped: returning pages, requesting huge pages, populating pages. All of
// it goes through one guarded call, the only madvise of the allocator. Every function preserves errno, takes no lock,
// and is thread-safe.
#ifndef HAKMEM_OS_DECOMMIT_H_
#define HAKMEM_OS_DECOMMIT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_decommit_mode {
  HAK_DECOMMIT_OFF,       // nothing
  HAK_DECOMMIT_FREE,      // the kernel takes the pages when it needs them; until they are written again they read as
                          // their old contents or as zero (MADV_FREE)
  HAK_DECOMMIT_DONTNEED,  // the pages are returned at once (MADV_DONTNEED)
};

// Returns the pages of [start, start + size) to the kernel; they stay mapped. Both ends are at page boundaries, and the
// range is not empty. False (always for HAK_DECOMMIT_OFF): nothing changed. With HAK_DECOMMIT_DONTNEED a second call,
// which the kernel must refuse, finds out whether a filter keeps the advice from it.
bool hak_os_decommit(void *start, size_t size, enum hak_decommit_mode mode);

// Returns the pages of the range at once. True only if they now read as zero: the function reads the first word instead
// of relying on the kernel's answer. Some emulators and sandboxes report success and do nothing; once this is seen,
// this function and hak_os_decommit always return false. The range must be writable, and no other thread may read it.
// The read maps the kernel's zero page in place of the first page, which is not memory of the process.
bool hak_os_decommit_to_zero(void *start, size_t size);

// Requests huge pages for the range, or forbids them. False: the kernel has none.
bool hak_os_advise_huge(void *start, size_t size, bool wanted);
// Whether this process can have huge pages of a superslab's size:
enum hak_huge_supply {
  HAK_HUGE_NEVER,      // no, or huge pages have another size
  HAK_HUGE_ON_ADVICE,  // where the program requests them
  HAK_HUGE_ALWAYS,     // in every mapping
};
// Determined once.
enum hak_huge_supply hak_os_huge_pages(void);
// Whether the system gives huge pages, of any size, to every mapping ("always").
bool hak_os_huge_by_default(void);
// Splits the huge page that contains `page`, whose contents are lost. Without this the kernel keeps the memory of
// returned pages of a huge page until memory is short. False: nothing changed.
bool hak_os_split_huge(void *page);

// Excludes the range from core files. False: it is included.
bool hak_os_leave_out_of_core(void *start, size_t size);

// Populates the range now, instead of by a fault for each page later. False: only part of it, or nothing, is populated.
bool hak_os_populate(void *start, size_t size);

// Makes the range read as zero in every later child of the process. False: it does not.
bool hak_os_wipe_on_fork(void *start, size_t size);

// Closes pages without a mapping of their own (Linux 6.13): nobody can touch them, and they hold no memory. False:
// nothing changed, and the kernel is not asked again, unless a fault plan made the call fail. That a filter has kept
// the advice from the kernel is only found when the pages are opened.
bool hak_os_guard(void *start, size_t size);
// The same for pages that were used. Their first word is lost in any case.
bool hak_os_guard_used(void *start, size_t size);
// Opens pages that were closed together; they read as zero. A second call, which the kernel must refuse, and the first
// word show whether they really do. False: they stay closed; or, if hak_os_guards_work is false now, nothing is known
// of them.
bool hak_os_unguard(void *start, size_t size);
// False: these functions always fail here, perhaps only since the program has set a filter.
bool hak_os_guards_work(void);

HAK_C_END

#endif  // HAKMEM_OS_DECOMMIT_H_
