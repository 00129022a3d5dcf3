#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the Python script that has the name of the target and stands in the target's package: //bench/compare:compare runs
# bench/compare/compare.py, from the target's runfiles. Modules of the benchmarks are named from the root of the repository
# on: `from bench.lib import cli`.
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
