#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# malloc_catches.sh PROGRAM REPORT [RUNNER]: passes if PROGRAM, started by RUNNER, succeeds without arguments, and with
# one argument fails and prints a line that contains REPORT; and if no malloc of hakmem is in it.

set -u

[ $# -ge 2 ] && [ $# -le 3 ] || { echo "usage: $0 PROGRAM REPORT [RUNNER]" >&2; exit 2; }
program=$1
report=$2
runner=${3:-}

${runner:+"$runner"} "$program" || { echo "FAILED: the program without its bug ends with status $?"; exit 1; }
said=$(${runner:+"$runner"} "$program" bug 2>&1) && { echo "FAILED: nothing was caught: $said"; exit 1; }
case $said in
  *"$report"*) ;;
  *) echo "FAILED: no \"$report\": $said"; exit 1 ;;
esac

names=$(nm "$program") || exit 1
case $names in
  *' hak_override_malloc'*) echo "FAILED: $program has hakmem's malloc too"; exit 1 ;;
  *' hak_override_sanitized'*) ;;
  *) echo "FAILED: $program is not linked with //allocator:malloc"; exit 1 ;;
esac
