#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: make_seeds_test.sh MAKE_SEEDS FUZZ
#
# The committed seeds match the scripts. A seed that differs, a seed without a script, and a script that cannot be read
# are errors that name the place.
set -u
tool=$1
fuzz=$2
scratch=${TEST_TMPDIR:?}
failed=0

# expect NAME STATUS TEXT COMMAND...: TEXT is an extended regular expression that a line of the output matches, or empty.
expect() {
  name=$1
  status=$2
  text=$3
  shift 3
  "$@" >"$scratch/log" 2>&1
  got=$?
  if [ "$got" -ne "$status" ] || { [ -n "$text" ] && ! grep -Eq -e "$text" "$scratch/log"; }; then
    echo "FAILED $name: $*: status $got, not $status with \"$text\""
    cat "$scratch/log"
    failed=1
  fi
}

expect 'the committed seeds' 0 '' sh -c '"$0" --check "$1" && echo same' "$tool" "$fuzz"

mkdir -p "$scratch/copy/allocator" "$scratch/scripts"
cp -RL "$fuzz" "$scratch/copy/fuzz"
cp -RL "$fuzz/../allocator/policy" "$scratch/copy/allocator/policy"
chmod -R u+w "$scratch/copy"
copy=$scratch/copy/fuzz
expect 'the copy' 0 'same' sh -c '"$0" --check "$1" && echo same' "$tool" "$copy"
printf 'x' >>"$copy/corpus/slab_fuzzer/seed_slab_0"
expect 'a seed that differs' 1 'corpus/slab_fuzzer/seed_slab_0 is not what' "$tool" --check "$copy"
expect 'written anew' 0 '' "$tool" "$copy"
expect 'the same again' 0 'same' sh -c '"$0" --check "$1" && echo same' "$tool" "$copy"
printf 'x' >"$copy/corpus/slab_fuzzer/seed_of_nobody"
expect 'a seed without a script' 1 'seed_of_nobody has no script' "$tool" --check "$copy"

# broken NAME TARGET LINE TEXT: a script whose second line is LINE must be refused with TEXT.
broken() {
  printf '# first line\n%s\n' "$3" >"$scratch/scripts/$1.txt"
  expect "$1" 2 "scripts/$1.txt:2: .*$4" "$tool" --one "$2" "$scratch/scripts/$1.txt"
}
broken call heap_ops_fuzzer 'mallok slot=3' 'no call "mallok"'
broken field heap_ops_fuzzer 'malloc colour=3' 'no field "colour"'
broken no_value heap_ops_fuzzer 'malloc slot' '"slot" is not FIELD=VALUE'
broken no_number heap_ops_fuzzer 'malloc slot=blue' '"blue" is no number'
broken syntax heap_ops_fuzzer 'malloc slot=3+' 'cannot be worked out'
broken too_large heap_ops_fuzzer 'malloc slot=256' 'slot=256 does not fit into 0 to 255'
broken size heap_ops_fuzzer 'malloc size=1000000007' 'no record means a size of 1000000007'
broken loop heap_ops_fuzzer 'for i in 0: malloc' 'a loop is'
broken zero_step heap_ops_fuzzer 'for i in 0..3 step 0: malloc' 'a step of 0'
broken zero_division heap_ops_fuzzer 'malloc slot=3%0' 'cannot be worked out'
broken text gate_fuzzer 'HAKMEM_PROFILE=lean' 'a line of text is'
broken escape gate_fuzzer 'line \x' 'escape'
printf '# nothing\n' >"$scratch/scripts/empty.txt"
expect 'an empty script' 2 'empty.txt: a script without a call' "$tool" --one slab_fuzzer "$scratch/scripts/empty.txt"
expect 'a missing script' 2 'missing.txt' "$tool" --one slab_fuzzer "$scratch/scripts/missing.txt"
expect 'an unknown target' 2 'no target "x_fuzzer"' "$tool" --one x_fuzzer "$scratch/scripts/empty.txt"
expect 'no scripts' 2 'holds no script' "$tool" --check "$scratch/scripts"
expect 'no argument' 2 '^usage:' "$tool"
exit "$failed"
