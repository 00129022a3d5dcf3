#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# count_calls: exact counts of known calls, in threads and child processes too; signals, stops and the exit status pass.
set -u
count=$1
target=$2
library=$3
report=$TEST_TMPDIR/report
failed=0

fail() {
  echo "FAILED: $*" >&2
  failed=1
}

# status EXPECTED MODE N: the traced program's exit status.
status() {
  expected=$1
  shift
  "$count" "$report" - "$target" "$@" >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err"
  got=$?
  [ "$got" -eq "$expected" ] || fail "'$*' gave status $got, not $expected: $(cat "$TEST_TMPDIR/err")"
}

# differs TIMES MODE: N = 100 makes 100 * TIMES calls of each kind more than N = 0.
differs() {
  times=$1
  mode=$2
  status 0 "$mode" 0
  cp "$report" "$TEST_TMPDIR/none"
  status 0 "$mode" 100
  paste -d' ' "$TEST_TMPDIR/none" "$report" >"$TEST_TMPDIR/both"
  [ "$(wc -l <"$TEST_TMPDIR/both")" -eq 6 ] || fail "$mode: not six kinds"
  while read -r kind none _ some; do
    [ "$((some - none))" -eq "$((100 * times))" ] || fail "$mode: $kind: $some - $none is not 100 * $times"
  done <"$TEST_TMPDIR/both"
}

differs 1 calls
differs 3 threads
differs 4 forks   # two children, each before and after its exec
differs 1 signals # one child

"$target" signals 1 || fail 'signals: fails even without a tracer'
status 0 status 0
status 42 status 42
status 134 kill 6
status 137 kill 9

# The library is preloaded only into the command, and count_calls's own LD_PRELOAD is not passed on.
[ "$("$count" "$report" "$library" "$target" preload 0)" = "$library" ] || fail 'the library is not preloaded'
[ "$(LD_PRELOAD=$library "$count" "$report" - "$target" preload 0)" = none ] || fail 'LD_PRELOAD was passed on'

"$count" "$report" - /no/such/program 2>/dev/null
[ $? -eq 127 ] || fail 'a program that is not there'
"$count" /no/such/folder/report - "$target" calls 0 2>/dev/null
[ $? -eq 125 ] || fail 'a report that cannot be written'
"$count" "$report" - 2>"$TEST_TMPDIR/err"
[ $? -eq 2 ] || fail 'no command'
grep -q '^usage: count_calls' "$TEST_TMPDIR/err" || fail 'no usage'

[ "$failed" -eq 0 ] && echo 'count_calls_test: all passed'
exit "$failed"
