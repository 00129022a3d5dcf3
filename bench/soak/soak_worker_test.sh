#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The worker's command line, its files, its counts of system calls for a known workload, and turns.
set -u
worker=$1
count_calls=$2
scratch=$TEST_TMPDIR
unset LD_PRELOAD
failed=0

fail() {
  echo "FAILED: $*"
  failed=1
}

refused() {
  "$worker" "$@" >"$scratch/out" 2>"$scratch/err"
  status=$?
  [ "$status" -eq 2 ] || fail "$*: exit status $status, not 2"
  grep -q '^usage: soak_worker' "$scratch/err" || fail "$*: no usage"
  [ -s "$scratch/out" ] && fail "$*: printed on stdout"
}

# well_formed FILE PHASES: all rows complete and in order, their phases as given. In churn and consumer other threads than
# the one that counts the time do the work, so a busy machine may leave them no time in an epoch, but not in all of them.
well_formed() {
  awk -F, -v file="$1" '
    NR == 1 { columns = NF; if (NF != 24 || $1 != "epoch" || $24 != "phase") print file ": header " $0; next }
    NF != columns { print file ": fields in row " NR }
    $1 != NR - 2 { print file ": epoch " $1 " in row " NR }
    $2 + 0 <= time { print file ": time " $2 " is not after " time }
    { time = $2 + 0 }
    { for (i = 1; i < 24; i++) if ($i !~ /^[0-9]+(\.[0-9]+)?$/) print file ": field " i " is " $i }
    { operations += $3 }
    $24 != "start" && ($3 == 0 && $24 !~ /^(after|churn|consumer)/) { print file ": no operation in row " NR }
    $6 < 500 || $9 < $6 || $11 < 5 { print file ": implausible memory in row " NR }
    $20 > $21 || $21 > $22 || $22 > $23 { print file ": percentiles do not rise in row " NR }
    NR == 2 && $24 == "start" && ($3 != 0 || $5 != 0) { print file ": blocks before the start" }
    END { if (operations == 0) print file ": no operation in any row" }
  ' "$1" >"$scratch/problems"
  [ -s "$scratch/problems" ] && fail "$(cat "$scratch/problems")"
  phases=$(tail -n +2 "$1" | cut -d, -f24 | uniq | tr '\n' ' ')
  [ "$phases" = "$2 " ] || fail "$1: phases '$phases', not '$2'"
}

# run NAME PHASES ARGUMENT...: one run with both files.
run() {
  name=$1
  wanted=$2
  shift 2
  "$worker" --workload "$name" --csv "$scratch/$name.csv" --latency "$scratch/$name.latency.csv" --start-row "$@" \
    >"$scratch/out" 2>"$scratch/err" || fail "$name $*: $(cat "$scratch/err")"
  [ -s "$scratch/err" ] && fail "$name $*: $(cat "$scratch/err")"
  well_formed "$scratch/$name.csv" "$wanted"
  for line in 'Allocator = glibc' 'Start RSS = ' 'Harness = ' 'Peak RSS = ' 'Peak live = ' 'System calls = counted'; do
    grep -q "^$line" "$scratch/out" || fail "$name: no line '$line'"
  done
  awk -F, 'NR == 1 { if ($0 != "epoch,low_ns,high_ns,count") print "header"; next }
    $2 >= $3 || $4 < 1 || ($1 == epoch && $2 < high) { print "row " NR ": " $0 } { epoch = $1; high = $3 }
    END { if (NR < 3) print "no row" }' "$scratch/$name.latency.csv" >"$scratch/problems"
  [ -s "$scratch/problems" ] && fail "$name: latency: $(cat "$scratch/problems")"
}

# ---- The command line ----
refused --nope
refused positional
refused --workload
refused --workload nope
refused --duration 0
refused --duration -1
refused --duration 1s
refused --duration 1.2.3
refused --duration 1 --epoch 2
refused --ws 0
refused --ws 2x
refused --seed -1
refused --children 5
refused --threads 0
refused --trickle some
refused --turns 3
refused --turns 3,4,last
refused --turns 3,4 --workload threads
refused --epoch-ops 10 --workload churn
refused --trough --workload fork
refused --start-ns 18446744073709551615
"$worker" --help >"$scratch/out" 2>"$scratch/err" || fail '--help failed'
grep -q '^usage: soak_worker' "$scratch/out" || fail '--help printed no usage'
"$worker" --workload steady --csv "$scratch/no/such/folder" --duration 0.1 --epoch 0.1 2>"$scratch/err"
[ $? -eq 1 ] || fail 'a file that cannot be written: exit status is not 1'

# ---- Every workload; by operations where the number of epochs matters, for the machine may be busy ----
run steady 'start steady trough' --duration 60 --epoch 0.1 --epoch-ops 200000 --max-ops 600000 --trough --ws 2000
run spike 'start peak plateau trough settled peak' --duration 60 --epoch-ops 200000 --max-ops 1000000 --peak-mb 10
run phase 'start small large small' --duration 60 --epoch-ops 200000 --max-ops 600000 --peak-mb 10
run churn 'start churn' --duration 1.5 --epoch 0.1
run fork 'start fork' --duration 1.5 --epoch 0.1
run freeall 'start peak freed after_1s' --duration 1 --peak-mb 10 --threads 3 --trickle mixed
run consumer 'start consumer freed' --epoch 0.05 --max-ops 4000000
run threads 'start first middle last'

# Live bytes are as expected: 0 when all is freed, the requested peak at the peak.
[ "$(tail -n 1 "$scratch/threads.csv" | cut -d, -f5)" = 0 ] || fail 'threads: blocks are left'
[ "$(tail -n 1 "$scratch/consumer.csv" | cut -d, -f5)" = 0 ] || fail 'consumer: blocks are left'
awk -F, '$24 == "freed" && $5 != 0 { print "left " $5 } $24 == "peak" && ($5 < 10000000 || $5 > 11500000 || $6 * 1024 < $5) { print $0 }' \
  "$scratch/freeall.csv" >"$scratch/problems"
[ -s "$scratch/problems" ] && fail "freeall: $(cat "$scratch/problems")"

# ---- Known system calls: with this setting glibc maps and unmaps every block ----
GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1:glibc.malloc.mmap_max=1000000 \
  "$worker" --workload steady --ws 100 --epoch-ops 5000 --max-ops 10000 --duration 60 --csv "$scratch/known.csv" \
  >"$scratch/out" 2>&1 || fail "known: $(cat "$scratch/out")"
# In the first epoch glibc also allocates a cache for the thread; since 2.42 it does so earlier.
awk -F, 'NR > 1 && ($14 + $15 < $3 || $14 + $15 > $3 + (NR == 2) || $16 + $17 + $18 + $19 != 0) { print "row " NR ": " $0 } END { if (NR != 3) print NR " lines" }' \
  "$scratch/known.csv" >"$scratch/problems"
[ -s "$scratch/problems" ] && fail "known system calls: $(cat "$scratch/problems")"
"$worker" --no-trace --epoch-ops 5000 --max-ops 5000 --duration 60 >"$scratch/out" || fail '--no-trace failed'
tail -n 1 "$scratch/out" | cut -d, -f14-19 | grep -qx -- '-1,-1,-1,-1,-1,-1' || fail '--no-trace: calls are counted'

# A process that is already traced cannot be traced again.
"$count_calls" "$scratch/report" - "$worker" --epoch-ops 5000 --max-ops 5000 --duration 60 >"$scratch/out" 2>"$scratch/err" ||
  fail 'without permission to trace: no run'
tail -n 1 "$scratch/out" | cut -d, -f14-19 | grep -qx -- '-1,-1,-1,-1,-1,-1' || fail 'without permission: calls are counted'
grep -q '^soak_worker: system calls are not counted: ' "$scratch/err" || fail 'without permission: no line on stderr'

# The same operations give the same live bytes.
for i in 1 2; do
  "$worker" --no-trace --ws 1000 --epoch-ops 100000 --max-ops 300000 --seed 7 --csv - | cut -d, -f3,5 >"$scratch/same.$i"
done
cmp -s "$scratch/same.1" "$scratch/same.2" || fail 'the same seed gives other blocks'

# ---- Turns ----
mkfifo "$scratch/a" "$scratch/b"
start=$("$worker" --now)
(
  exec 4>"$scratch/b" 3<"$scratch/a"
  exec "$worker" --duration 2 --epoch 0.1 --csv "$scratch/turn.1" --turns 3,4,first --start-ns "$start" >/dev/null
) &
first=$!
(
  exec 3<"$scratch/b" 4>"$scratch/a"
  exec "$worker" --duration 2 --epoch 0.1 --csv "$scratch/turn.2" --turns 3,4 --start-ns "$start" >/dev/null
) || fail 'the second worker failed'
wait "$first" || fail 'the first worker failed'
well_formed "$scratch/turn.1" steady
well_formed "$scratch/turn.2" steady
# Sorts the epochs of both by time: they must alternate.
{
  sed 's/^/1,/' "$scratch/turn.1"
  sed 's/^/2,/' "$scratch/turn.2"
} | grep -v epoch | sort -t, -k3,3n | awk -F, '$1 == last { print "no turn before " $0 } { last = $1 } END { if (NR < 4) print NR " epochs" }' \
  >"$scratch/problems"
[ -s "$scratch/problems" ] && fail "turns: $(cat "$scratch/problems")"

# When one neighbour ends, the others end too.
(
  exec 3<"$scratch/b" 4>"$scratch/a"
  exec "$worker" --duration 30 --epoch 0.1 --csv "$scratch/turn.2" --turns 3,4 >/dev/null 2>"$scratch/err"
) &
second=$!
(
  exec 4>"$scratch/b" 3<"$scratch/a"
  exec "$worker" --duration 1 --epoch 0.1 --csv /dev/full --turns 3,4,first >/dev/null 2>&1
)
wait "$second"
status=$?
[ "$status" -eq 1 ] || fail "a neighbour died: exit status $status, not 1"
grep -q 'the worker before this one has ended' "$scratch/err" || fail "a neighbour died: $(cat "$scratch/err")"

[ "$failed" -eq 0 ] && echo PASSED
exit "$failed"
