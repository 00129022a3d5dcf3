#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: campaign_test.sh CAMPAIGN SOURCE      CAMPAIGN: campaign.sh, SOURCE: planted_fuzzer.cc, which fails on "BUG"
#
# A campaign finds the planted bug, minimises the input, keeps new inputs and writes its row; it reports what it cannot
# do.
set -u
campaign=$1
source=$2
scratch=${TEST_TMPDIR:?}
failed=0

fail() {
  echo "FAILED $*"
  cat "$scratch/log"
  failed=1
}

# expect WHAT STATUS TEXT ARGUMENT...: runs the campaign with the arguments; its output must contain TEXT.
expect() {
  what=$1
  status=$2
  text=$3
  shift 3
  sh "$campaign" -o "$scratch/out" -r "$scratch/report.md" "$@" >"$scratch/log" 2>&1
  got=$?
  [ "$got" -eq "$status" ] && grep -q -e "$text" "$scratch/log" || fail "$what: status $got, expected $status and: $text"
}

# The target and the header that it includes are found in the source tree or in the runfiles.
root=$(cd "$(dirname "$source")/.." && pwd)
if ! clang++-19 -std=c++17 -O1 -fsanitize=address,fuzzer -I "$root" -o "$scratch/planted" "$source" >"$scratch/log" 2>&1; then
  fail 'compiling the planted target'
  exit 1
fi

# ---- A campaign that finds something -------------------------------------------------------------------------------------

mkdir "$scratch/corpus" "$scratch/empty" "$scratch/bad"
printf 'some longer input' >"$scratch/corpus/seed"
expect 'the planted bug' 1 'planted: FOUND .*/findings/crash_.*what():.*the planted bug.*Seed: [0-9]' \
  -p "$scratch/planted" -c "$scratch/corpus" planted 0.05
grep -q '^planted: alone it fails too; in base64: QlVH$' "$scratch/log" || fail 'the input in the log'
tail -n 1 "$scratch/log" | grep -q '^findings: planted: .*the planted bug' || fail 'the last line says what was found'
set -- "$scratch/out/planted/findings/crash_"*
found=''
for file in "$@"; do
  case $file in *.log) continue ;; esac
  [ "$(cat "$file")" = BUG ] && found=$file
done
[ -n "$found" ] || fail 'the finding is the shortest input that brings the target down'
grep -q 'the planted bug' "$found.log" || fail 'the log beside the finding'
[ -f "$scratch/corpus/seed" ] && [ "$(ls "$scratch/corpus" | wc -l)" -gt 1 ] || fail 'new inputs in the corpus'
ls "$scratch/corpus" | grep -q crash && fail 'a crash in the corpus'
grep -q '^| [0-9]*-[0-9]*-[0-9]* | `planted` | asan | default | [0-9.]* | [1-9][0-9]* | [0-9]* | [0-9]* → [0-9]* | [1-9][0-9]* | [1-9] |$' \
  "$scratch/report.md" || fail 'the row in the report'
[ "$(grep -c '^# ' "$scratch/report.md")" -eq 1 ] || fail 'the head of the report'

# ---- A campaign without findings: the same target without its bug ----------------------------------------------------

sed -e 's/"BUG", 3) == 0/"BUG", 3) == 1000/' "$source" >"$scratch/mended.cc"
clang++-19 -std=c++17 -O1 -fsanitize=address,fuzzer -I "$root" -o "$scratch/mended" "$scratch/mended.cc" >"$scratch/log" 2>&1 ||
  fail 'compiling the mended target'
expect 'nothing to find' 0 'mended: [1-9][0-9]* executions in .* 0 findings' -p "$scratch/mended" -c "$scratch/corpus" \
  -e HAKMEM_PROFILE=lean mended 0.05
grep -q '| `mended` | asan | HAKMEM_PROFILE=lean | .* | 0 |$' "$scratch/report.md" || fail 'the second row'

# ---- A campaign that does not change the corpus ----------------------------------------------------------------------

mkdir "$scratch/kept"
cp "$scratch/corpus/seed" "$scratch/kept/seed"
expect 'a corpus that is kept' 0 'mended: .* 0 new inputs' -n -p "$scratch/mended" -c "$scratch/kept" mended 0.02
[ "$(ls "$scratch/kept")" = seed ] || fail 'the corpus was changed'

# ---- A machine that is too busy: the input runs out of time, but not when it is tried again --------------------------

# slow NAME STATUS: makes a program that replaces libFuzzer's. Its first run ends with an input that runs out of time;
# alone that input ends with STATUS.
slow() {
  cat >"$scratch/$1" <<END
#!/bin/sh
echo '#7 INITED cov: 3 ft: 3' >&2
for argument do
  case \$argument in
    -artifact_prefix=*)
      [ -f "$scratch/$1.ran" ] && { sleep 1; exit 0; }
      : >"$scratch/$1.ran"
      echo SLOW >"\${argument#*=}timeout-5105"
      exit 70
      ;;
    */timeout-5105) exit $2 ;;
  esac
done
END
  chmod +x "$scratch/$1"
}
slow waiting 0
expect 'an input kept waiting' 0 'timeout-5105 ran out of time, but not when it ran again' -n -p "$scratch/waiting" \
  -c "$scratch/kept" waiting 0.01
slow hanging 70
expect 'an input that hangs' 1 'hanging: FOUND .*/findings/timeout_' -n -p "$scratch/hanging" -c "$scratch/kept" hanging 0.01

# ---- Campaigns that cannot run ---------------------------------------------------------------------------------------

printf 'BUG' >"$scratch/bad/seed"
expect 'a corpus with a bad input' 2 'does not get through its corpus' -p "$scratch/planted" -c "$scratch/bad" planted 0.05
expect 'an empty corpus' 2 'is empty' -p "$scratch/planted" -c "$scratch/empty" planted 0.05
expect 'a missing corpus' 2 'not a folder' -p "$scratch/planted" -c "$scratch/missing" planted 0.05
expect 'a missing program' 2 'is no program' -p "$scratch/missing" planted 0.05
expect 'an unknown target' 2 'no fuzz target missing_fuzzer; there are: .*heap_ops_fuzzer' missing_fuzzer 1
expect 'no minutes' 2 'a target and minutes are needed' heap_ops_fuzzer
for minutes in 0 -1 nan inf ten 1e9; do
  expect "minutes $minutes" 2 'minutes must be a number' -- heap_ops_fuzzer "$minutes"
done
expect 'an unknown sanitizer' 2 'no sanitizer msan' -s msan heap_ops_fuzzer 1
expect 'an unknown option' 2 'option -x not recognized' -x heap_ops_fuzzer 1
expect 'a bad setting' 2 'needs NAME=VALUE' -e HAKMEM heap_ops_fuzzer 1
expect 'bad jobs' 2 'needs a number' -j 0 heap_ops_fuzzer 1
expect 'all with a program' 2 'for one target' -p "$scratch/planted" all 1
expect 'usage' 2 '^usage: campaign.sh' all

mkdir "$scratch/path"
for program in dirname sh; do ln -s "$(command -v "$program")" "$scratch/path/$program"; done
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$scratch/path/python3"
old_path=$PATH
PATH=$scratch/path
sh "$campaign" heap_ops_fuzzer 1 >"$scratch/log" 2>&1
got=$?
PATH=$old_path
[ "$got" -eq 2 ] && grep -q 'no program clang-19' "$scratch/log" || fail "a missing compiler: status $got"
exit "$failed"
