#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# which_malloc.sh hakmem|libc PROGRAM [LIBRARY]: passes if PROGRAM, with LIBRARY preloaded, works and uses that malloc.

set -u

[ $# -ge 2 ] && [ $# -le 3 ] || { echo "usage: $0 hakmem|libc PROGRAM [LIBRARY]" >&2; exit 2; }
wanted=$1
program=$2
library=${3:+$PWD/$3}

# run OPTION...: runs the program on a few words.
run() {
  printf 'one two two one three one\n' | tr ' ' '\n' | env ${library:+LD_PRELOAD="$library"} "$@" "$program"
}

expected=$(printf 'one two two one three one\n' | tr ' ' '\n' | env LC_ALL=C "$program")
[ -n "$expected" ] || { echo "FAILED: $program prints nothing"; exit 1; }
[ "$(run LC_ALL=C)" = "$expected" ] || { echo "FAILED: $program prints something else with $library"; exit 1; }

# hakmem can say that the program calls it; libc's malloc cannot.
shown=$(run LC_ALL=C HAKMEM_SHOW_CONFIG=1 2>&1 >/dev/null)
case $shown in
  *'hakmem: in use: this process calls hakmem '*) found=hakmem ;;
  '') found=libc ;;
  *) echo "FAILED: $program says: $shown"; exit 1 ;;
esac
echo "$program runs on $found"
[ "$found" = "$wanted" ] || { echo "FAILED: not on $wanted"; exit 1; }

# A static program does not name a dynamic linker.
case $program in
  *_static)
    if readelf -lW "$program" | grep -q INTERP; then
      echo "FAILED: $program is not static"
      exit 1
    fi
    ;;
esac
