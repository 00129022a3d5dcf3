// SPDX-License-Identifier: Apache-2.0
//
// What is checked of a small block when it changes hands, by its header and its poison. Only in builds with headers;
// without them HAK_BLOCK_CHECKS is 0 and the calls are never made. A check that fails ends the process.
#ifndef HAKMEM_CHECK_BLOCK_CHECK_H_
#define HAKMEM_CHECK_BLOCK_CHECK_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

#define HAK_BLOCK_CHECKS (HAK_HEADER != HAK_HEADER_MODE_NONE)

// The block leaves the allocator for the program.
void hak_block_check_out(void *block, uint32_t class_id);
// The program gives the block back. Call it once for each free, before the block can be handed out again.
void hak_block_check_in(void *block, uint32_t class_id);
// Ends the process with one complaint or the other unless the block is live: `if_free` when it was freed, `if_other`
// when it was never handed out.
void hak_block_require_live(const void *block, uint32_t class_id, const char *if_free, const char *if_other);
// Ends the process when a freed block was written to since.
void hak_block_require_untouched(const void *block, uint32_t class_id);
// The program names the block as its own (realloc, usable size).
void hak_block_check_live(const void *block, uint32_t class_id);

HAK_C_END

#endif  // HAKMEM_CHECK_BLOCK_CHECK_H_
