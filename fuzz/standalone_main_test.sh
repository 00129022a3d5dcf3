#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: standalone_main_test.sh TARGET      TARGET: planted_fuzzer, which aborts on the input "BUG"
#
# The program that replays corpora fails on an input that makes the target fail, and if there was nothing to run.
set -u
target=$1
scratch=${TEST_TMPDIR:?}
failed=0

# expect WORD STATUS TEXT ARGUMENT...: runs the target with the arguments. STATUS is 0, 2, or 1 for anything else; the
# output must contain TEXT.
expect() {
  name=$1
  status=$2
  text=$3
  shift 3
  "$target" "$@" >"$scratch/log" 2>&1
  got=$?
  [ "$got" -eq 0 ] || [ "$got" -eq 2 ] || got=1
  if [ "$got" -ne "$status" ] || ! grep -q -e "$text" "$scratch/log"; then
    echo "FAILED $name: $target $*"
    cat "$scratch/log"
    failed=1
  fi
}

mkdir "$scratch/good" "$scratch/bad" "$scratch/empty" "$scratch/dangling"
printf 'good' >"$scratch/good/1"
printf 'good' >"$scratch/bad/1"
printf 'BUG' >"$scratch/bad/2"

expect 'a good corpus' 0 '^1 files, 0 generated inputs$' "$scratch/good"
expect 'generated inputs' 0 '^0 files, 20 generated inputs$' -runs=20
expect 'no input' 1 'nothing was tested'
expect 'an empty corpus' 1 'nothing was tested' -runs=20 "$scratch/empty"
expect 'a missing file' 2 "^cannot read $scratch/missing: No such file" "$scratch/missing"
expect 'a missing file among others' 2 "^cannot read $scratch/missing: " "$scratch/good" "$scratch/missing"
ln -s "$scratch/nowhere" "$scratch/dangling/link"
expect 'a link to nowhere' 2 "^cannot read $scratch/dangling/link: " "$scratch/dangling"
expect 'no number' 2 'is not a number' -runs=x
expect 'the bug' 1 'the planted bug' "$scratch/bad"
expect 'the name of the bad input' 1 "^input: $scratch/bad/2\$" "$scratch/bad"
expect 'the bytes of the bad input' 1 '^bytes: 425547$' "$scratch/bad/2"
exit "$failed"
