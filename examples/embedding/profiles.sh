#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# profiles.sh PROFILE PROGRAM [PROFILE PROGRAM]...: passes if each PROGRAM runs on hakmem built under its PROFILE.

set -u

[ $# -ge 2 ] || { echo "usage: $0 PROFILE PROGRAM..."; exit 2; }
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "FAILED: $1 without a program"; exit 2; }
  said=$(echo word | HAKMEM_SHOW_CONFIG=1 "$2" 2>&1 >/dev/null)
  case $said in
    *"hakmem: in use: this process calls hakmem "*" $1 header="*) echo "$2 runs on $1" ;;
    *) echo "FAILED: $2 is not on $1: $said"; exit 1 ;;
  esac
  shift 2
done
