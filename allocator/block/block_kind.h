// SPDX-License-Identifier: Apache-2.0
//
// By which kind of call a block was allocated. Guarded builds remember it for each block, because C and C++ name one
// call that may free it (api/mismatch.h).
#ifndef HAKMEM_BLOCK_BLOCK_KIND_H_
#define HAKMEM_BLOCK_BLOCK_KIND_H_

#include "allocator/os/base.h"

HAK_C_BEGIN

enum hak_kind {
  HAK_KIND_MALLOC,  // malloc, its relatives, and hak_malloc; freed by free, hak_free and realloc
  HAK_KIND_NEW,
  HAK_KIND_NEW_ARRAY,
  HAK_KIND_ALIGNED_NEW,  // with std::align_val_t
  HAK_KIND_ALIGNED_NEW_ARRAY,
  HAK_KIND_COUNT,
};

HAK_C_END

#endif  // HAKMEM_BLOCK_BLOCK_KIND_H_
