#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# qemu_aarch64.sh PROGRAM ARGS...: for --run_under of --config=aarch64. A script runs as it is: only what it starts could
# need the emulator, and that is for the script to know.

magic=$(head -c 4 "$1" | od -An -tx1 | tr -d ' \n')
if [ "$magic" = 7f454c46 ]; then
  exec /usr/bin/qemu-aarch64 -L /usr/aarch64-linux-gnu "$@"
fi
exec "$@"
