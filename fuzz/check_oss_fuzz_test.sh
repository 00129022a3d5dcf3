#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: check_oss_fuzz_test.sh CHECK SOURCE BUILD     CHECK: check_oss_fuzz.sh, SOURCE: control_target.cc, BUILD: build.sh
#
# The check of builds accepts a good target, refuses each broken one and says what is wrong with it. The build script
# names what is missing in its environment.
set -u
check=$1
source=$2
build=$3
scratch=${TEST_TMPDIR:?}
failed=0

fail() {
  echo "FAILED $*"
  cat "$scratch/log"
  failed=1
}

# compile OUTPUT OPTION...: compiles the target, by default for AddressSanitizer.
compile() {
  output=$1
  shift
  clang++-19 -O1 -static-libstdc++ -static-libgcc "$@" -o "$output" >"$scratch/log" 2>&1 || fail "compiling $output"
}

# The files beside a target.
printf 'seed' >"$scratch/input"
python3 - "$scratch/corpus.zip" "$scratch/input" <<'END'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.write(sys.argv[2], "input")
END
printf '[libfuzzer]\nmax_len = 64\n' >"$scratch/options"
printf '"word"\n' >"$scratch/dict"

# package NAME PROGRAM: makes a folder NAME-out with the program as the target NAME and all files beside it.
package() {
  out=$scratch/$1-out
  mkdir "$out"
  ln "$2" "$out/$1"
  cp "$scratch/corpus.zip" "$out/$1_seed_corpus.zip"
  cp "$scratch/options" "$out/$1.options"
  cp "$scratch/dict" "$out/$1.dict"
}

# expect WHAT STATUS TEXT SANITIZER NAME: checks NAME-out.
expect() {
  sh "$check" -s "$4" "$scratch/$5-out" >"$scratch/log" 2>&1
  got=$?
  [ "$got" -eq "$2" ] && grep -q -e "$3" "$scratch/log" || fail "$1: status $got, expected $2 and: $3"
}

# refused NAME TEXT OPTION...: the check must refuse the target with a compiled-in defect.
refused() {
  name=$1
  text=$2
  shift 2
  compile "$scratch/$name" "$@"
  package "$name" "$scratch/$name"
  expect "$name" 1 "^BAD BUILD: $name: .*$text" address "$name"
}

full='-fsanitize=address,fuzzer'
compile "$scratch/good" $full "$source"
package good "$scratch/good"
expect 'a good target' 0 '^PASSED good ' address good

# ---- Compiled-in defects ---------------------------------------------------------------------------------------------

compile "$scratch/plain.o" -c "$source"
refused uncovered 'no coverage instrumentation' $full "$scratch/plain.o"
compile "$scratch/covered.o" -fsanitize=fuzzer-no-link -c "$source"
refused unsanitized '[0-9] calls of __asan_report_.*not compiled with the sanitizer' $full "$scratch/covered.o"
refused without_runtime 'calls of __asan, fewer than 1000' -fsanitize=fuzzer "$source"
refused crashes 'crashes or exits at its start' $full -DBROKEN_CRASH "$source"
refused exits 'crashes or exits at its start' $full -DBROKEN_EXIT "$source"
refused prints 'prints:' $full -DBROKEN_PRINTS "$source"
refused bad_seed 'does not get through its seed corpus' $full -DBROKEN_SEED "$source"
refused writes 'writes files: trace' $full -DBROKEN_FILE "$source"
refused shared_runtime 'needs the library libclang_rt' $full -shared-libasan "$source"
expect 'a target for address taken for one for undefined' 1 'calls of __asan, more than 0: compiled with another' undefined good

# ---- Defects of the files beside the program -------------------------------------------------------------------------

package 'bad.name' "$scratch/good"
expect 'a bad name' 1 '^BAD BUILD: bad.name: the name has other characters' address bad.name
package no_corpus "$scratch/good"
rm "$out/no_corpus_seed_corpus.zip"
expect 'no corpus' 1 '^BAD BUILD: no_corpus: has no no_corpus_seed_corpus.zip' address no_corpus
package broken_corpus "$scratch/good"
printf 'no archive' >"$out/broken_corpus_seed_corpus.zip"
expect 'a broken corpus' 1 '^BAD BUILD: broken_corpus: broken_corpus_seed_corpus.zip cannot be unpacked' address broken_corpus
package no_options "$scratch/good"
rm "$out/no_options.options"
expect 'no options' 1 '^BAD BUILD: no_options: has no no_options.options' address no_options
package broken_options "$scratch/good"
printf 'max_len = 64\n' >"$out/broken_options.options"
expect 'broken options' 1 '^BAD BUILD: broken_options: broken_options.options cannot be read' address broken_options
package unknown_option "$scratch/good"
printf '[libfuzzer]\nmax_lenn = 64\n' >"$out/unknown_option.options"
expect 'an unknown option' 1 '^BAD BUILD: unknown_option: .*option that libFuzzer does not know' address unknown_option
package broken_dict "$scratch/good"
printf 'word\n' >"$out/broken_dict.dict"
expect 'a broken dictionary' 1 '^BAD BUILD: broken_dict: broken_dict.dict cannot be read' address broken_dict
package stray "$scratch/good"
printf '"word"\n' >"$out/other.dict"
expect 'a stray file' 1 '^BAD BUILD: other.dict belongs to no fuzz target' address stray
package not_executable "$scratch/good"
rm "$out/not_executable"
cp "$scratch/good" "$out/not_executable"
chmod -x "$out/not_executable"
expect 'not executable' 1 '^BAD BUILD: not_executable: is not executable' address not_executable
mkdir "$scratch/empty-out"
expect 'an empty folder' 1 'no fuzz target in it' address empty
expect 'a missing folder' 2 'missing-out is not a folder' address missing
expect 'an unknown sanitizer' 2 'no check for the sanitizer memory' memory good

# ---- The environment of build.sh ---------------------------------------------------------------------------------------

# environment TEXT ASSIGNMENT...: runs the build script with these changes to a complete environment (-u NAME removes a
# variable).
environment() {
  text=$1
  shift
  env CC=clang-19 CXX=clang++-19 CFLAGS= CXXFLAGS= LIB_FUZZING_ENGINE=-fsanitize=fuzzer OUT="$scratch/out" \
    SRC="$scratch" WORK="$scratch/work" SANITIZER=address ARCHITECTURE=x86_64 env "$@" \
    sh "$build" >"$scratch/log" 2>&1
  got=$?
  [ "$got" -eq 2 ] && grep -q -e "$text" "$scratch/log" || fail "build.sh with $*: status $got, expected 2 and: $text"
}

for name in CC CXX CFLAGS CXXFLAGS LIB_FUZZING_ENGINE OUT SRC WORK SANITIZER ARCHITECTURE; do
  environment "the variable $name is not set" -u "$name"
done
environment 'the variable OUT is empty' OUT=
environment 'no program clang-0' CC=clang-0
environment 'no program clang++-0' CXX='clang++-0 -v'
environment 'SANITIZER=memory is not supported' SANITIZER=memory
environment 'ARCHITECTURE=i386 is not supported' ARCHITECTURE=i386
environment 'ARCHITECTURE=sparc is not supported' ARCHITECTURE=sparc
environment 'the source tree must be at' ARCHITECTURE=aarch64
exit "$failed"
