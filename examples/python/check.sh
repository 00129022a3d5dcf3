#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the program on installed trees of hakmem, as the image does: check.sh STANDARD_PREFIX HARDENED_PREFIX
#
# Python and numpy are the machine's.

set -eu
[ $# -eq 2 ] || { sed -n 's/^# .*: \(check.sh .*\)/usage: \1/p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
# Nothing of the user's settings, and no files of compiled Python in the tree.
unset LD_PRELOAD PYTHONMALLOC
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

expected=$(/usr/bin/python3 arrays.py)
case $expected in
  'sum '[1-9]*) ;;
  *) echo "without hakmem the program says: $expected"; exit 1 ;;
esac

# serves PREFIX PROFILE VARIABLE...: the same sum on that build of hakmem.
serves() {
  local prefix=$1 profile=$2 said
  shift 2
  said=$(env "$@" LD_PRELOAD="$(realpath "$prefix")/lib/libhakmem.so.0" HAKMEM_SHOW_CONFIG=1 \
    /usr/bin/python3 arrays.py 2>"$scratch/said")
  [ "$said" = "$expected" ] || { echo "on hakmem the program says: $said"; exit 1; }
  grep "^hakmem: in use: this process calls hakmem .* $profile " "$scratch/said"
}

serves "$1" standard
serves "$1" standard PYTHONMALLOC=malloc
serves "$2" hardened
serves "$2" hardened PYTHONMALLOC=malloc
echo 'the Python example holds'
