#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: check_oss_fuzz.sh                        builds all targets for address and for undefined, and checks them
#        check_oss_fuzz.sh -s SANITIZER           only for that one
#        check_oss_fuzz.sh -s SANITIZER OUT_DIR   checks what stands in OUT_DIR, which was built for SANITIZER
#
# Does what OSS-Fuzz does with a build before it takes it: builds with fuzz/oss-fuzz/build.sh in an environment that has
# nothing but its variables, moves $OUT elsewhere, and looks at every fuzz target there (oss-fuzz/check_build.py says at
# what). Exit status 1: a target is bad, and a line says which and why; 2: nothing could be checked.
#
# CC and CXX choose the compiler, clang-19 unless they are set; ARCHITECTURE is this machine's.
set -u
here=$(cd "$(dirname "$0")" && pwd)

complain() {
  echo "check_oss_fuzz.sh: $*" >&2
  sed -n -e '/^# usage:/,/^#$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

sanitizers='address undefined'
if [ "${1-}" = -s ]; then
  [ "$#" -ge 2 ] || complain '-s needs a sanitizer'
  sanitizers=$2
  shift 2
  case $sanitizers in
    address | undefined) ;;
    *) complain "no check for the sanitizer $sanitizers" ;;
  esac
  out_dir=${1-}
  [ "$#" -eq 0 ] || shift
  [ -z "$out_dir" ] || [ -d "$out_dir" ] || complain "$out_dir is not a folder"
fi
[ "$#" -eq 0 ] || complain "what is $1?"

CC=${CC:-clang-19}
CXX=${CXX:-clang++-19}
architecture=${ARCHITECTURE:-$(uname -m)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 2' HUP INT TERM

# flags SANITIZER: as in the image that builds; there UBSan also counts what is not undefined, as a hint for the fuzzer.
flags() {
  echo '-O1 -fno-omit-frame-pointer -gline-tables-only -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION'
  case $1 in
    address) echo '-fsanitize=address -fsanitize-address-use-after-scope' ;;
    undefined)
      checks=array-bounds,bool,builtin,enum,function,integer-divide-by-zero,null,object-size,return
      checks=$checks,returns-nonnull-attribute,shift,signed-integer-overflow,unreachable,vla-bound,vptr
      echo "-fsanitize=$checks,unsigned-integer-overflow -fno-sanitize-recover=$checks"
      ;;
  esac
  echo '-fsanitize=fuzzer-no-link'
}

status=0
for sanitizer in $sanitizers; do
  echo "==== $sanitizer"
  work=$scratch/$sanitizer
  mkdir -p "$work/src" "$work/out" "$work/work" "$work/elsewhere"
  if [ -n "${out_dir-}" ]; then
    cp -R "$out_dir/." "$work/out/"
  else
    ln -s "$(dirname "$here")" "$work/src/hakmem"
    options=$(flags "$sanitizer" | tr '\n' ' ')
    # As in its image, the script is elsewhere than the tree, and starts in the tree.
    cp "$here/oss-fuzz/build.sh" "$work/src/build.sh"
    (cd "$work/src/hakmem" && env -i PATH="$PATH" CC="$CC" CXX="$CXX" CFLAGS="$options" CXXFLAGS="$options" \
      LIB_FUZZING_ENGINE=-fsanitize=fuzzer OUT="$work/out" SRC="$work/src" WORK="$work/work" SANITIZER="$sanitizer" \
      ARCHITECTURE="$architecture" sh "$work/src/build.sh") || exit 2
  fi
  mv "$work/out" "$work/elsewhere/out"
  rm -rf "$work/src" "$work/work"
  python3 "$here/oss-fuzz/check_build.py" "$sanitizer" "$architecture" "$work/elsewhere/out"
  case $? in
    0) ;;
    1) status=1 ;;
    *) exit 2 ;;
  esac
done
exit "$status"
