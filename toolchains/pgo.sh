#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The whole of profile-guided optimisation: builds libhakmem.so with counters, runs workloads on it, and builds it again
# with the counts.
#
#   toolchains/pgo.sh gcc|clang PROFILE [BAZEL OPTION...]
#
# PROFILE, an absolute path that does not exist yet, gets the counts: a folder (gcc) or a merged file (clang). The
# options, such as --config=fast, apply to every build. The result is bazel-bin/allocator/libhakmem.so; the line printed
# at the end builds other targets with the same profile. If you can, train it with your own program: the workloads here
# are those of bench/workloads/random_mixed.c. Exits 0 if the profile was used, 1 if something failed, 2 for a wrong
# call.

set -u

usage() {
  echo "usage: pgo.sh gcc|clang PROFILE [BAZEL OPTION...]   (PROFILE: an absolute path that does not exist yet)" >&2
  exit 2
}

[ $# -ge 2 ] || usage
compiler=$1
profile=$2
shift 2
case $compiler in gcc | clang) ;; *) usage ;; esac
case $profile in *[!A-Za-z0-9_./-]*) usage ;; /*) ;; *) usage ;; esac
if [ -e "$profile" ]; then
  echo "pgo.sh: $profile exists; Bazel would not notice that a profile of the same name holds other counts" >&2
  exit 2
fi

cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

fail() {
  echo "pgo.sh: $1" >&2
  exit 1
}

# built TARGET COPY ARGS...
built() {
  target=$1
  copy=$2
  shift 2
  ./bazelw build --noshow_progress --color=no --config="$compiler" "$@" "//$target" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    fail "//$target does not build"
  }
  cp -L "bazel-bin/$(echo "$target" | tr : /)" "$scratch/$copy" || exit 1
}

counts=$profile
[ "$compiler" = gcc ] || counts=$profile.raw
mkdir -p "$counts" || exit 1

built bench/workloads:random_mixed random_mixed "$@"
built allocator:libhakmem.so plain.so "$@"
built allocator:libhakmem.so counting.so "$@" --config=pgo-generate "--//toolchains/cc:pgo_profile=$counts"

for workload in '400000 400' '400000 20000' '200000 400 1 16 65536' '200000 1000 1 16 1039 --threads 2 --remote 50'; do
  # shellcheck disable=SC2086  # words
  LD_PRELOAD=$scratch/counting.so "$scratch/random_mixed" $workload >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    fail "the workload \"$workload\" failed"
  }
done

if [ "$compiler" = gcc ]; then
  files=$(find "$counts" -name '*.gcda' | wc -l)
  [ "$files" -ge 10 ] || fail "only $files files with counts came out of the workloads"
else
  /usr/bin/llvm-profdata-19 merge -o "$profile" "$counts"/*.profraw || fail "the counts could not be merged"
  rm -rf "$counts"
fi

built allocator:libhakmem.so guided.so "$@" --config=pgo-use "--//toolchains/cc:pgo_profile=$profile"
if cmp -s "$scratch/plain.so" "$scratch/guided.so"; then fail "the profile changed nothing"; fi
LD_PRELOAD=$scratch/guided.so "$scratch/random_mixed" 200000 400 >"$scratch/log" 2>&1 || {
  cat "$scratch/log" >&2
  fail "the optimised library does not run"
}
echo "./bazelw build --config=$compiler${*:+ $*} --config=pgo-use --//toolchains/cc:pgo_profile=$profile //allocator:libhakmem.so"
