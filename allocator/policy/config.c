// SPDX-License-Identifier: Apache-2.0
#include "allocator/policy/config.h"

struct hak_config hak_config;
