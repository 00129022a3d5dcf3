#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the Python script that has the name of the target: //bench/soak:analyze_soak runs analyze_soak.py from the
# target's runfiles.
set -eu
name=$(basename "$0" .sh)
for script in "$0.runfiles"/*/bench/soak/"$name.py" "${RUNFILES_DIR:-/nonexistent}"/*/bench/soak/"$name.py" \
  "$(dirname "$0")/$name.py"; do
  if [ -f "$script" ]; then
    exec python3 -B "$script" "$@"
  fi
done
echo "$0: $name.py is not in the runfiles" >&2
exit 1
