// SPDX-License-Identifier: Apache-2.0
//
// The secret that encodes links.
#include "allocator/block/tiny_nextptr.h"

uint64_t hak_nextptr_secret;
