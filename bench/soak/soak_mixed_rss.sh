#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs one workload on several allocators, one after the other: how much memory does a process keep when its use
# changes?
set -eu
prog=soak_mixed_rss
here=$(cd "$(dirname "$0")" && pwd)
for common in "$0.runfiles"/*/bench/soak/soak_common.sh "${RUNFILES_DIR:-/nonexistent}"/*/bench/soak/soak_common.sh \
  "$here/soak_common.sh"; do
  [ -f "$common" ] && break
done
# shellcheck source=soak_common.sh
. "$common"

usage() {
  cat <<END
usage: $prog [NAME=VALUE]...
  WORKLOAD      spike, phase, churn, fork or steady (spike)
  DURATION_SEC  wall time of each allocator's run (60)
  WS            slots of the workload (its own default)
  PEAK_MB       MiB of live blocks at the peak of spike, always in phase (200)
  OUT           folder for WORKLOAD-NAME.csv, WORKLOAD-NAME.latency.csv and run.txt (soak-out)
END
  shared_usage
}

settings='WORKLOAD DURATION_SEC EPOCH_SEC WS PEAK_MB ALLOCATOR OUT CPU SEED TRACE'
: "${WORKLOAD=spike}" "${WS=}" "${PEAK_MB=200}"
read_settings "$@"
case $WORKLOAD in
  spike | phase | churn | fork | steady) ;;
  *) refuse "WORKLOAD does not know '$WORKLOAD' (spike, phase, churn, fork, steady)" ;;
esac
check_number PEAK_MB "$PEAK_MB" 0-9
check_settings
find_parts
choose_allocators
common_options

pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || :' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for allocator in $allocators; do
  resolve "$allocator"
  echo "$prog: $WORKLOAD on $name" >&2
  base=$OUT/$WORKLOAD-$name
  # shellcheck disable=SC2086  # a list of options
  (run_worker --workload "$WORKLOAD" $options --peak-mb "$PEAK_MB" --csv "$base.csv" \
    --latency "$base.latency.csv" >"$base.out.new") &
  pid=$!
  wait "$pid" || fail "the run on $name failed"
  pid=
  grep -v '^Allocator = ' "$base.out.new" | sed "s/^/$name: /" >>"$OUT/run.txt"
  rm -f "$base.out.new"
done
cat "$OUT/run.txt"
