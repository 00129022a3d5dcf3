#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: build.sh      in the environment of OSS-Fuzz or ClusterFuzzLite
#
# Builds all fuzz targets into $OUT from the tree at $SRC/hakmem. It needs the variables below, the compiler that they
# name, and python3, but neither Bazel nor a network. Exit status 2: one of these is missing, and the message says
# which.
set -eu

complain() {
  echo "build.sh: $*" >&2
  exit 2
}

# CFLAGS, CXXFLAGS and LIB_FUZZING_ENGINE may be empty, but must be set: a build without them would not be instrumented.
for name in CC CXX CFLAGS CXXFLAGS LIB_FUZZING_ENGINE OUT SRC WORK SANITIZER ARCHITECTURE; do
  eval "[ -n \"\${$name+set}\" ]" || complain "the variable $name is not set"
done
for name in CC CXX LIB_FUZZING_ENGINE OUT SRC WORK; do
  eval "[ -n \"\$$name\" ]" || complain "the variable $name is empty"
done

case $SANITIZER in
  address | undefined | coverage | none) ;;
  *) complain "SANITIZER=$SANITIZER is not supported; address, undefined, coverage and none are" ;;
esac
case $ARCHITECTURE in
  x86_64 | aarch64) ;;
  i386) complain "ARCHITECTURE=i386 is not supported: the allocator needs 64-bit addresses" ;;
  *) complain "ARCHITECTURE=$ARCHITECTURE is not supported; x86_64 and aarch64 are" ;;
esac
for program in "${CC%% *}" "${CXX%% *}" python3; do
  command -v "$program" >/dev/null 2>&1 || complain "no program $program"
done
tool=$SRC/hakmem/fuzz/oss-fuzz/build_targets.py
[ -f "$tool" ] || complain "no $tool: the source tree must be at \$SRC/hakmem"

export CC CXX CFLAGS CXXFLAGS LIB_FUZZING_ENGINE OUT WORK
# The source tree may be read-only, and is not changed. A target that does not build is left out; the others are still
# fuzzed.
PYTHONDONTWRITEBYTECODE=1 exec python3 "$tool" --keep-going "$@"
