// SPDX-License-Identifier: Apache-2.0
//
// The resolved settings.
#include "allocator/policy/config.h"

struct hak_config hak_config;
