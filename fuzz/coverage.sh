#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: coverage.sh [-o REPORT] [PROFILE]...
#
# Replays the corpora of all fuzz targets in builds with clang's source coverage, one for each build profile, and writes
# which lines of allocator/ they reach, and why they do not reach the others: docs/analysis/testing/fuzz-coverage.md
# unless -o is given. If PROFILEs are given it covers only these, and needs -o. Exit status 1: an input makes its target
# fail, the explanations (coverage/unreached.tsv) do not fit, or the total is below the floor; 2: it cannot be measured.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

# The least coverage of all profiles together, in percent.
floor=95

complain() {
  echo "coverage.sh: $*" >&2
  sed -n -e '/^# usage:/,/^#$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

report=$root/docs/analysis/testing/fuzz-coverage.md
named=''
if [ "${1-}" = -o ]; then
  [ "$#" -ge 2 ] || complain '-o needs a file'
  report=$2
  named=yes
  shift 2
fi
known=$(PYTHONDONTWRITEBYTECODE=1 python3 "$here/oss-fuzz/fuzz_targets.py" --profiles) || exit 2
for profile in "$@"; do
  case " $(echo $known) " in
    *" $profile "*) ;;
    *) complain "no build profile $profile; there are: $(echo $known)" ;;
  esac
done
if [ "$#" -gt 0 ]; then
  [ -n "$named" ] || complain 'a report of some profiles needs -o'
  floor=0
fi
profiles=${*:-$known}
for program in clang-19 clang++-19 llvm-cov-19 llvm-profdata-19; do
  command -v "$program" >/dev/null 2>&1 || complain "no program $program"
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 2' HUP INT TERM
mkdir "$scratch/src" "$scratch/lcov"
ln -s "$root" "$scratch/src/hakmem"
# The counters are mapped from the file (%c below), so code that runs at a process's very end counts too.
flags='-O1 -g1 -fprofile-instr-generate -fcoverage-mapping -fprofile-update=atomic'
flags="$flags -mllvm -runtime-counter-relocation=true"

# replay PROFILE TARGET: runs every input with every setting, each setting in a process of its own.
replay() {
  while read -r name assignments; do
    case $name in '' | '#'*) continue ;; esac
    # shellcheck disable=SC2086  # several assignments
    if ! env $assignments LLVM_PROFILE_FILE="$work/$2-$name%c.profraw" "$work/out/$2" -runs=0 "$here/corpus/$2" \
      >"$scratch/log" 2>&1; then
      echo "coverage.sh: $2 under the setting $name, in the profile $1, does not get through its corpus:" >&2
      tail -n 20 "$scratch/log" >&2
      exit 1
    fi
  done <"$here/coverage/settings.txt"
}

for profile in $profiles; do
  work=$scratch/$profile
  lcov=$scratch/lcov/$profile
  mkdir -p "$work/out" "$work/work" "$lcov"
  env CC=clang-19 CXX=clang++-19 CFLAGS="$flags" CXXFLAGS="$flags" LIB_FUZZING_ENGINE=-fsanitize=fuzzer \
    OUT="$work/out" SRC="$scratch/src" WORK="$work/work" SANITIZER=coverage ARCHITECTURE="$(uname -m)" \
    sh "$here/oss-fuzz/build.sh" --profile "$profile" --objects "$work/objects" >&2 || exit 2
  for target in $(PYTHONDONTWRITEBYTECODE=1 python3 "$here/oss-fuzz/fuzz_targets.py"); do
    replay "$profile" "$target"
    llvm-profdata-19 merge -o "$work/$target.profdata" "$work/$target"-*.profraw || exit 2
    llvm-cov-19 export -format=lcov -instr-profile "$work/$target.profdata" "$work/out/$target" \
      >"$lcov/$target.lcov" || exit 2
    any=$work/$target.profdata
  done
  # Which lines have code at all, from every object, whether a target contains it or not. The counts do not matter.
  : >"$lcov/allocator.lcov"
  while read -r object; do
    llvm-cov-19 export -format=lcov -instr-profile "$any" "$object" >>"$lcov/allocator.lcov" 2>"$scratch/log" || {
      cat "$scratch/log" >&2
      exit 2
    }
  done <"$work/objects"
  rm -rf "$work"
done
mkdir -p "$(dirname "$report")"
python3 "$here/coverage/report.py" --root "$root" --table "$here/coverage/unreached.tsv" \
  --settings "$here/coverage/settings.txt" --floor "$floor" --out "$report" "$scratch/lcov"
