// SPDX-License-Identifier: Apache-2.0
//
// Advice to the kernel about memory that stays mapped: giving pages back, asking for huge ones, filling them in. All of
// it goes through one guarded call, the only madvise of the allocator. Every function leaves errno as it was, takes no
// lock, and is thread-safe.
#ifndef HAKMEM_OS_DECOMMIT_H_
#define HAKMEM_OS_DECOMMIT_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_decommit_mode {
  HAK_DECOMMIT_OFF,       // nothing
  HAK_DECOMMIT_FREE,      // the kernel takes the pages when it needs them; until they are written again they read as
                          // what they held or as zero (MADV_FREE)
  HAK_DECOMMIT_DONTNEED,  // the pages go back at once (MADV_DONTNEED)
};

// Gives the pages of [start, start + size) back; they stay mapped. Both ends at page boundaries, not empty. False (and
// always for HAK_DECOMMIT_OFF): nothing changed.
bool hak_os_decommit(void *start, size_t size, enum hak_decommit_mode mode);

// Gives the pages of the range back at once, and true only if they now read as zero: that the kernel said so is not
// believed, the first word is looked at. Some emulators and sandboxes answer with success and do nothing; once that is
// seen, this function and hak_os_decommit always say false. The range can be written, and nobody else looks at it. The
// look leaves the kernel's page of zeros in the place of the first page, which is no memory of the process.
bool hak_os_decommit_to_zero(void *start, size_t size);

// Asks for huge pages in the range, or forbids them. False: the kernel does not have them.
bool hak_os_advise_huge(void *start, size_t size, bool wanted);
// What the system says of huge pages for this process: a superslab's memory can be in one...
enum hak_huge_supply {
  HAK_HUGE_NEVER,      // not at all, or they are not of a superslab's size
  HAK_HUGE_ON_ADVICE,  // where a program asks for it
  HAK_HUGE_ALWAYS,     // unasked
};
// It is asked once.
enum hak_huge_supply hak_os_huge_pages(void);
// Whether the system makes huge pages, of whatever size, unasked ("always").
bool hak_os_huge_by_default(void);
// Takes the huge page apart that holds the page at `page`, whose contents are lost with it: without this the kernel
// keeps the memory of pages that are given back until it is short of it. False: it is as it was.
bool hak_os_split_huge(void *page);

// Leaves the range out of core files. False: it is in them.
bool hak_os_leave_out_of_core(void *start, size_t size);

// Fills the range with memory now, instead of a fault for each page later. False: only a part, or nothing, is filled.
bool hak_os_populate(void *start, size_t size);

// From now on the range reads as zero in a child of the process. False: it does not.
bool hak_os_wipe_on_fork(void *start, size_t size);

HAK_C_END

#endif  // HAKMEM_OS_DECOMMIT_H_
