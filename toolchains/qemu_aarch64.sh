#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# qemu_aarch64.sh PROGRAM ARGS...: for --run_under of --config=aarch64. A script runs directly, and must start the
# emulator itself if it needs it.

emulator=${HAKMEM_TEST_QEMU_AARCH64:-/usr/bin/qemu-aarch64}

if [ $# -eq 0 ]; then
  echo "usage: qemu_aarch64.sh PROGRAM ARGS..." >&2
  exit 2
fi
magic=$(head -c 4 "$1" | od -An -tx1 | tr -d ' \n')
if [ "$magic" = 7f454c46 ]; then
  if [ ! -x "$emulator" ]; then
    echo "qemu_aarch64.sh: no $emulator: apt-get install qemu-user" >&2
    exit 127
  fi
  exec "$emulator" -L /usr/aarch64-linux-gnu "$@"
fi
exec "$@"
