#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# random_mixed: refusals, and the form of the output that compare.py reads.
set -u
bench=$1
failed=0

fail() {
  echo "FAILED: $*" >&2
  failed=1
}

refused() {
  "$bench" "$@" >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err"
  status=$?
  [ "$status" -eq 2 ] || fail "'$*' gave status $status, not 2"
  grep -q '^usage: random_mixed' "$TEST_TMPDIR/err" || fail "'$*' printed no usage"
  [ ! -s "$TEST_TMPDIR/out" ] || fail "'$*' printed on stdout"
}

refused --nope
refused -1
refused +1
refused ' 1'
refused ''
refused abc
refused 1e6
refused 0
refused 99999999999999999999
refused 10 0
refused 10 10 1 0
refused 10 10 1 5 2
refused 1 2 3 4 5 6
refused --rng
refused --rng other
refused --rng=
refused --rngx=seed
refused --touch none
refused --threads 0
refused --threads two
refused --threads 2 --remote 101
refused --remote 5
refused --rng=seed 10 10 0
refused --rng=seed 10 10 1 8
refused --rng=seed --threads 2 --remote 5
refused --workload nope
refused --workload pure_remote --threads 3
refused --workload churn --remote 5 --threads 2
refused --workload pair 10 1 1 16 32
refused --drag
refused --drag -1
refused --drag 10 --workload churn

"$bench" --help >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err" || fail '--help failed'
grep -q '^usage: random_mixed' "$TEST_TMPDIR/out" || fail '--help printed no usage'
[ ! -s "$TEST_TMPDIR/err" ] || fail '--help wrote on stderr'

accepted() {
  "$bench" "$@" >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err" || fail "'$*' failed: $(cat "$TEST_TMPDIR/err")"
  for line in 'Allocator = [a-z]+ .+ \(.+\)' 'Workload = [a-z0-9_-]+ cycles=[0-9]+ ws=[0-9]+ .*' 'Compiler = .+' \
    'Operations = [0-9]+ \(total of [0-9]+ threads?\)' 'Time = [0-9]+\.[0-9]{6} s' 'Throughput = [1-9][0-9]* ops/s' \
    'Start RSS = [1-9][0-9]* KiB' 'Peak RSS = [1-9][0-9]* KiB' 'End RSS = [1-9][0-9]* KiB'; do
    [ "$(grep -cEx "$line" "$TEST_TMPDIR/out")" -eq 1 ] || fail "'$*' printed not one line '$line'"
  done
  [ ! -s "$TEST_TMPDIR/err" ] || fail "'$*' wrote on stderr"
}

accepted 20000
accepted 20000 100 7 1 1
accepted --rng seed --touch=ends 20000 100
accepted 20000 --touch all 100 --rng=independent
accepted 20000 --threads 3 --remote=100
accepted 20000 --threads 2 --rng=seed
accepted 20000 --drag 10
accepted 20000 --drag=10 --workload exchange
# All workloads of the usage, the lines below the heading of its table, with a hundredth of their cycles.
"$bench" --help | sed -n '/^workloads and their defaults:$/,$ { s/^  \([a-z0-9_-]*\)  *\([0-9][0-9]*\) .*/\1 \2/p }' >"$TEST_TMPDIR/workloads"
[ "$(wc -l <"$TEST_TMPDIR/workloads")" -ge 50 ] || fail 'the usage names no workloads'
while read -r workload cycles; do
  accepted "$((cycles / 100 + 1))" --workload "$workload"
done <"$TEST_TMPDIR/workloads"

# Two threads on two processors, which are named, unless there is only one.
for workload in pair-near-r50 pair-far-r50; do
  accepted 20000 --workload "$workload"
  if [ "$(nproc)" -ge 2 ]; then
    grep -Eq '^Processors = [0-9]+ and [0-9]+, [1-9][0-9]* ns ' "$TEST_TMPDIR/out" || fail "$workload did not say where it ran"
  else
    grep -qx 'Processors = only one' "$TEST_TMPDIR/out" || fail "$workload did not see that there is one processor"
  fi
done
if command -v taskset >/dev/null; then
  taskset -c "$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')" "$bench" 20000 --workload pair-far-r50 >"$TEST_TMPDIR/out" ||
    fail 'pair-far-r50 failed on one processor'
  grep -qx 'Processors = only one' "$TEST_TMPDIR/out" || fail 'pair-far-r50 did not see that it has one processor'
fi

# The order of options does not matter: the same seed makes the same operations.
"$bench" 20000 50 9 --touch ends | grep Operations >"$TEST_TMPDIR/a"
"$bench" --touch ends 20000 50 9 | grep Operations >"$TEST_TMPDIR/b"
cmp "$TEST_TMPDIR/a" "$TEST_TMPDIR/b" || fail 'the same run did other operations'

# No memory left: one clear line and status 1.
# shellcheck disable=SC3045  # not in POSIX, but in every sh of Linux
(ulimit -v 60000 && "$bench" 3000000 1000000) >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err"
status=$?
[ "$status" -eq 1 ] || fail "out of memory gave status $status, not 1"
grep -Eq '^random_mixed: the allocator returned NULL for [0-9]+ bytes$' "$TEST_TMPDIR/err" ||
  fail 'out of memory printed another message'

[ "$failed" -eq 0 ] && echo 'random_mixed_test: all passed'
exit "$failed"
