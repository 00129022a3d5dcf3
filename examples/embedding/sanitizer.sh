#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# sanitizer.sh PROGRAM: passes if PROGRAM runs without a mistake, and if $SANITIZER finds a mistake with a block of
# malloc that it finds only in a program that has its own malloc.

set -u

case ${SANITIZER:-} in
  asan) bug=overflow report='ERROR: AddressSanitizer: heap-buffer-overflow' ;;
  tsan) bug=race report='Location is heap block of size' ;;
  msan) bug=uninitialised report='WARNING: MemorySanitizer: use-of-uninitialized-value' ;;
  *) echo "FAILED: no sanitizer: bazel test --config=asan, tsan or msan"; exit 1 ;;
esac

"$1" || { echo "FAILED: without a mistake it ends with status $?"; exit 1; }
said=$("$1" "$bug" 2>&1) && { echo "FAILED: $SANITIZER finds nothing: $said"; exit 1; }
case $said in
  *"$report"*) echo "$SANITIZER finds it: $report" ;;
  *) echo "FAILED: $SANITIZER says something else: $said"; exit 1 ;;
esac
