#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: check_oss_fuzz.sh                        builds all targets for address and for undefined, and checks them
#        check_oss_fuzz.sh -s SANITIZER           only for that one
#        check_oss_fuzz.sh -s SANITIZER OUT_DIR   checks the targets in OUT_DIR, which were built for SANITIZER
#        check_oss_fuzz.sh --old [ROOT]           builds with an old C library and an old clang (Debian 11: glibc 2.31,
#                                                 that of OSS-Fuzz's base image, and clang-13), and checks that
#
# --old builds in the tree ROOT, which has them; without ROOT it makes one by mmdebstrap. It needs to be root. Checks a
# build as OSS-Fuzz does before it accepts it: builds with fuzz/oss-fuzz/build.sh in an environment that has only its
# variables, moves $OUT elsewhere, and checks every fuzz target there (oss-fuzz/check_build.py has the checks). Exit
# status 1: a target is bad, and a line says which and why; 2: nothing could be checked.
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
old=
if [ "${1-}" = --old ]; then
  old=yes
  root=${2-}
  sanitizers=address
  shift
  [ "$#" -eq 0 ] || shift
  [ "$(id -u)" -eq 0 ] || complain '--old: only root can change into another tree'
  [ -z "$root" ] || [ -d "$root" ] || complain "$root is not a folder"
fi
if [ -z "$old" ] && [ "${1-}" = -s ]; then
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

# flags SANITIZER: as in the build image, where UBSan also reports some defined behaviour, as a hint for the fuzzer.
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

# build_old: builds into $work/out, within the tree $root.
build_old() {
  if [ -z "$root" ]; then
    root=$scratch/root
    command -v mmdebstrap >/dev/null 2>&1 || complain '--old: no program mmdebstrap'
    mmdebstrap --quiet --variant=apt --include=clang-13,libclang-common-13-dev,libstdc++-10-dev,libc6-dev,python3 \
      bullseye "$root" http://deb.debian.org/debian || complain '--old: no tree of Debian 11'
  fi
  inside=$(mktemp -d "$root/oss-fuzz.XXXXXX") || exit 2
  mkdir -p "$inside/src/hakmem" "$inside/out" "$inside/work"
  (cd "$here/.." && tar -cf - --exclude=.git --exclude='./bazel-*' .) | tar -xf - -C "$inside/src/hakmem"
  name=/${inside##*/}
  chroot "$root" env -i PATH=/usr/bin:/bin CC=clang-13 CXX=clang++-13 CFLAGS="$options" CXXFLAGS="$options" \
    LIB_FUZZING_ENGINE=-fsanitize=fuzzer OUT="$name/out" SRC="$name/src" WORK="$name/work" SANITIZER="$sanitizer" \
    ARCHITECTURE="$architecture" sh "$name/src/hakmem/fuzz/oss-fuzz/build.sh"
  built=$?
  cp -R "$inside/out/." "$work/out/"
  rm -rf "$inside"
  return "$built"
}

status=0
for sanitizer in $sanitizers; do
  echo "==== $sanitizer"
  work=$scratch/$sanitizer
  mkdir -p "$work/src" "$work/out" "$work/work" "$work/elsewhere"
  if [ -n "${out_dir-}" ]; then
    cp -R "$out_dir/." "$work/out/"
  else
    options=$(flags "$sanitizer" | tr '\n' ' ')
    if [ -n "$old" ]; then
      build_old || exit 2
    else
      ln -s "$(dirname "$here")" "$work/src/hakmem"
      # As in its image, the script is outside the tree, and starts in the tree.
      cp "$here/oss-fuzz/build.sh" "$work/src/build.sh"
      (cd "$work/src/hakmem" && env -i PATH="$PATH" CC="$CC" CXX="$CXX" CFLAGS="$options" CXXFLAGS="$options" \
        LIB_FUZZING_ENGINE=-fsanitize=fuzzer OUT="$work/out" SRC="$work/src" WORK="$work/work" SANITIZER="$sanitizer" \
        ARCHITECTURE="$architecture" sh "$work/src/build.sh") || exit 2
    fi
    # The build continues without targets that it cannot build.
    for name in $(python3 "$here/oss-fuzz/fuzz_targets.py"); do
      [ -f "$work/out/$name" ] && continue
      echo "BAD BUILD: $name: not built"
      status=1
    done
  fi
  mv "$work/out" "$work/elsewhere/out"
  rm -rf "$work/src" "$work/work"
  ${old:+env ASAN_OPTIONS=symbolize=0} python3 "$here/oss-fuzz/check_build.py" "$sanitizer" "$architecture" "$work/elsewhere/out"
  case $? in
    0) ;;
    1) status=1 ;;
    *) exit 2 ;;
  esac
done
exit "$status"
