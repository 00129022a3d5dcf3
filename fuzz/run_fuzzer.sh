#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: bazel run --config=asan-libfuzzer //fuzz:NAME_run -- [ENGINE OPTION]...
#
# Starts the fuzz target NAME on its corpus, with its dictionary and its options; more options (-max_total_time=60,
# -jobs=2) go to the engine. New inputs go to $FUZZ_OUTPUT/NAME/corpus, inputs that bring the target down to
# $FUZZ_OUTPUT/NAME/artifacts; $FUZZ_OUTPUT is /tmp/fuzzing unless it is set.
#
# BUILD.bazel puts in front: NAME PROGRAM ENGINE CORPUS DICT OPTIONS; DICT and OPTIONS are files or the word none.
set -eu
if [ "$#" -lt 6 ]; then
  echo "$0: start it by bazel run //fuzz:NAME_run" >&2
  exit 2
fi
name=$1
program=$2
engine=$3
corpus=$4
dict=$5
options=$6
shift 6

case $program in
  /*) ;;
  *) program=$PWD/$program ;;
esac
for file in "$program" "$corpus"; do
  if [ ! -e "$file" ]; then
    echo "$name: $file is missing" >&2
    exit 2
  fi
done
out=${FUZZ_OUTPUT:-/tmp/fuzzing}/$name
mkdir -p "$out/corpus" "$out/artifacts"

if [ "$engine" != libfuzzer ]; then
  # The program only replays: say so, and give it something to do.
  echo "$name: built without libFuzzer, so this replays the corpus and some made-up inputs;" \
    "use --config=asan-libfuzzer to fuzz" >&2
  exec "$program" -runs=10000 "$@" "$corpus"
fi
# Ours first: of two options of one name libFuzzer takes the last.
if [ "$options" != none ]; then
  from_file=$(sed -n -e '/^\[libfuzzer\]/,/^\[/s/^\([a-z_]*\) *= *\(.*\)$/-\1=\2/p' "$options")
  # shellcheck disable=SC2086  # one option a line, without blanks
  set -- $from_file "$@"
fi
if [ "$dict" != none ]; then
  set -- "-dict=$dict" "$@"
fi
exec "$program" "-artifact_prefix=$out/artifacts/" "$@" "$out/corpus" "$corpus"
