#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the Python script with the target's name in the target's package, from the target's runfiles:
# //bench/compare:compare runs bench/compare/compare.py. Imports of the benchmarks' modules begin at the root of the
# repository: `from bench.lib import cli`.
set -eu
name=$(basename "$0" .sh)
folder=$(basename "$(dirname "$0")")
for candidate in "$0.runfiles"/* "${RUNFILES_DIR:-/nonexistent}"/* "$(dirname "$0")/../.."; do
  root=$(cd "$candidate" 2>/dev/null && pwd) || continue
  script=$root/bench/$folder/$name.py
  if [ -f "$script" ]; then
    PYTHONPATH=$root exec python3 -B "$script" "$@"
  fi
done
echo "$0: $name.py is not in the runfiles" >&2
exit 1
