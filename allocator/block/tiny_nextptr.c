// SPDX-License-Identifier: Apache-2.0
#include "allocator/block/tiny_nextptr.h"

uint64_t hak_nextptr_secret;
