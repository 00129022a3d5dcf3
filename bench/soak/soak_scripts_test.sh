#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The two soak scripts: their command line, and the form of their output. Arguments: the scripts.
set -u
scratch=$TEST_TMPDIR
failed=0

fail() {
  echo "FAILED: $*"
  failed=1
}

refused() {
  "$@" OUT="$scratch/none" >"$scratch/out" 2>"$scratch/err"
  status=$?
  [ "$status" -eq 2 ] || fail "$*: exit status $status, not 2: $(cat "$scratch/err")"
  [ "$(sed -n 2p "$scratch/err" | cut -c 1-6)" = usage: ] || fail "$*: no line and usage"
  [ -s "$scratch/out" ] && fail "$*: printed on stdout"
}

for script in "$@"; do
  "$script" --help >"$scratch/out" 2>"$scratch/err" || fail "$script --help failed"
  grep -q '^usage: ' "$scratch/out" || fail "$script --help printed no usage"
  refused "$script" positional
  refused "$script" --nope
  refused "$script" NOPE=1
  refused "$script" DURATION_SEC=0
  refused "$script" DURATION_SEC=
  refused "$script" DURATION_SEC=1m
  refused "$script" EPOCH_SEC=-1
  refused "$script" WS=0.5
  refused "$script" CPU=x
  refused "$script" CPU=9999
  refused "$script" TRACE=2
  refused "$script" ALLOCATOR=
  refused "$script" ALLOCATOR=nope
  refused "$script" ALLOCATOR=glibc,glibc
  refused "$script" ALLOCATOR=glibc,,speed
  refused "$script" ALLOCATOR=mine=/no/such/library.so
  refused "$script" DURATION_SEC=1 EPOCH_SEC=2
done

# Relative folders start at the folder where the command was typed.
export BUILD_WORKING_DIRECTORY="$scratch"
for script in "$@"; do
  name=$(basename "$script" .sh)
  prefix=''
  set --
  case $name in
    *rss) prefix=steady- && set -- WORKLOAD=steady ;;
  esac
  DURATION_SEC=1 EPOCH_SEC=0.1 "$script" ALLOCATOR=balanced,glibc "OUT=$name" WS=1000 "$@" >"$scratch/out" 2>"$scratch/err" ||
    fail "$name: $(cat "$scratch/err")"
  for allocator in balanced glibc; do
    rows=$(wc -l <"$scratch/$name/$prefix$allocator.csv")
    [ "$rows" -gt 1 ] || fail "$name: $rows rows for $allocator"
    [ -s "$scratch/$name/$prefix$allocator.latency.csv" ] || fail "$name: no latencies for $allocator"
  done
  for line in 'balanced: hakmem .* (libhakmem_standard.so)' 'glibc: glibc ' 'glibc: Peak RSS = ' ; do
    grep -q "$line" "$scratch/$name/run.txt" || fail "$name: no '$line' in run.txt: $(cat "$scratch/$name/run.txt")"
  done
done
[ "$failed" -eq 0 ] && echo PASSED
exit "$failed"
