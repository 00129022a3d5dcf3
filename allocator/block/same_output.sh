#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: same_output.sh FILE COMMAND...
#
# Passes when COMMAND writes exactly the contents of FILE: for generated files that are checked in.
set -u
[ $# -ge 2 ] || { echo "usage: same_output.sh FILE COMMAND..." >&2; exit 2; }
want=$1
shift
"$@" >"${TEST_TMPDIR:-/tmp}/same_output.$$" || { echo "$* failed" >&2; exit 1; }
if diff -u "$want" "${TEST_TMPDIR:-/tmp}/same_output.$$"; then
  rm -f "${TEST_TMPDIR:-/tmp}/same_output.$$"
  exit 0
fi
rm -f "${TEST_TMPDIR:-/tmp}/same_output.$$"
echo "$want is not what its generator writes; write it again: $* > $want" >&2
exit 1
