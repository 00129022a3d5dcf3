#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the libraries in two copies of this tree, at paths of different length, with separate output bases and Bazel
# servers and no common cache, and compares every shared library and archive byte by byte.
#
#   toolchains/check_reproducible.sh [CONFIG...]
#
# CONFIG is a name for --config= (default: `gcc`); each is built and compared separately. With `,dbg` (`gcc,dbg`) the
# build is -c dbg, whose objects name the folder in which they were compiled. Exits 0 if all are the same, 1 if a file
# differs or does not build, 2 for a wrong call.

set -u

for config in "$@"; do
  case $config in
    '' | *[!A-Za-z0-9_,-]* | -*)
      echo "usage: check_reproducible.sh [CONFIG...]" >&2
      exit 2
      ;;
  esac
done
[ $# -gt 0 ] || set -- gcc

cd "$(dirname "$0")/.." || exit 1
. toolchains/copies.sh
two_copies

bad=0
for config in "$@"; do
  options="--config=$(echo "$config" | sed -e 's/,dbg$/ -c dbg/')"
  for copy in "$one" "$other"; do
    # shellcheck disable=SC2086  # the options are words
    if ! in_copy "$copy" build --noshow_progress --color=no $options --disk_cache= //allocator:libhakmem.so >"$scratch/log" 2>&1; then
      cat "$scratch/log"
      echo "check_reproducible.sh: $config does not build" >&2
      exit 1
    fi
    out=$(cd "$copy/bazel-bin" && pwd -P) || exit 1
    (cd "$out" && find allocator -type f \( -name '*.so' -o -name '*.a' -o -name '*.o' \) -exec sha256sum {} + | sort -k 2) \
      >"$scratch/sums.$(basename "$copy")" || exit 1
  done
  # clang links objects, gcc archives of them.
  libraries=$(grep -c '\.\(so\|a\)$' "$scratch/sums.a")
  objects=$(grep -c '\.o$' "$scratch/sums.a")
  if [ "$objects" -lt 10 ] || ! grep -q ' allocator/libhakmem\.so$' "$scratch/sums.a"; then
    echo "FAILED $config: $libraries libraries and $objects objects are not what was to be compared" >&2
    bad=1
  elif ! diff "$scratch/sums.a" "$scratch/sums.longer"; then
    echo "FAILED $config: the files above differ between two builds of one tree" >&2
    bad=1
  else
    echo "same: $config, $libraries libraries and archives, $objects objects; libhakmem.so $(grep ' allocator/libhakmem\.so$' "$scratch/sums.a" | cut -c 1-16)"
  fi
done
exit $bad
