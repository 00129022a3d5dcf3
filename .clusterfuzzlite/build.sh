#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec sh "${SRC:?build.sh: the variable SRC is not set}/hakmem/fuzz/oss-fuzz/build.sh" "$@"
