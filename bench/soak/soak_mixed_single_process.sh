#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the steady mixed workload on several allocators in one run: each has a process, and they take turns epoch by
# epoch, so that a temporary slowdown of the machine affects all of them.
set -eu
prog=soak_mixed_single_process
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
  DURATION_SEC  wall time of all together (60)
  WS            slots of the workload (400)
  OUT           folder for NAME.csv, NAME.latency.csv and run.txt (soak-out)
END
  shared_usage
}

settings='DURATION_SEC EPOCH_SEC WS ALLOCATOR OUT CPU SEED TRACE'
: "${WS=400}"
read_settings "$@"
check_settings
find_parts
choose_allocators
common_options

scratch=$(mktemp -d)
pids=
clean() {
  for pid in $pids; do kill "$pid" 2>/dev/null || :; done
  rm -rf "$scratch"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A ring of pipes: each worker reads from its own pipe and writes to the next one's. The first worker has the turn. It
# opens its output first, because otherwise all would wait for each other.
count=0
for allocator in $allocators; do
  count=$((count + 1))
  mkfifo "$scratch/$count"
done
start=$("$worker" --now)
number=0
for allocator in $allocators; do
  number=$((number + 1))
  next=$((number % count + 1))
  resolve "$allocator"
  files="--csv $name.csv --latency $name.latency.csv"
  (
    turns=''
    if [ "$count" -gt 1 ]; then
      if [ "$number" -eq 1 ]; then
        exec 4>"$scratch/$next" 3<"$scratch/$number"
        turns='--turns 3,4,first'
      else
        exec 3<"$scratch/$number" 4>"$scratch/$next"
        turns='--turns 3,4'
      fi
    fi
    worker=$(cd "$(dirname "$worker")" && pwd)/$(basename "$worker")
    cd "$OUT"
    # shellcheck disable=SC2086  # lists of options
    run_worker $options $files --start-ns "$start" $turns >"$scratch/$name.out"
  ) &
  pids="$pids $!"
done

status=0
for pid in $pids; do
  wait "$pid" || status=1
done
pids=
[ "$status" -eq 0 ] || fail 'a worker failed'
for allocator in $allocators; do
  resolve "$allocator"
  sed "s/^/$name: /" "$scratch/$name.out" | grep -v ': Allocator = '
done >>"$OUT/run.txt"
cat "$OUT/run.txt"
