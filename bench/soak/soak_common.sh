# SPDX-License-Identifier: Apache-2.0
#
# What the two soak scripts share. A script that reads this file defines `usage`, which ends with `shared_usage`, and the
# names of its settings in `settings`; it calls `read_settings "$@"`, `check_settings`, `find_parts` and
# `choose_allocators` in this order.
# shellcheck shell=sh disable=SC2154

# The settings that every script has, and their lines of the usage.
: "${DURATION_SEC=60}" "${EPOCH_SEC=1}" "${ALLOCATOR=balanced,speed,lean,glibc,mimalloc,jemalloc,tcmalloc}"
: "${OUT=soak-out}" "${CPU=}" "${SEED=1}" "${TRACE=1}"
shared_usage() {
  cat <<END
  EPOCH_SEC     length of an epoch (1)
  ALLOCATOR     names with commas between (balanced,speed,lean,glibc,mimalloc,jemalloc,tcmalloc):
                balanced, speed, lean: hakmem STANDARD with this HAKMEM_PROFILE; fast: hakmem FAST; or NAME=LIB.so
  CPU           pin to these processors (not pinned)
  SEED          of the random numbers (1)
  TRACE         0: do not count system calls (1)
Settings are taken from the command line or else from the environment.
END
}

# refuse TEXT: a mistake on the command line.
refuse() {
  echo "$prog: $1" >&2
  usage >&2
  exit 2
}

fail() {
  echo "$prog: $1" >&2
  exit 1
}

# Arguments are NAME=VALUE for the names in `settings`, and override the environment.
read_settings() {
  for argument in "$@"; do
    case $argument in
      --help | -h)
        usage
        exit 0
        ;;
      [A-Z]*=*)
        case " $settings " in
          *" ${argument%%=*} "*) ;;
          *) refuse "unknown setting '${argument%%=*}'" ;;
        esac
        # The name is in `settings`, and the value is not evaluated.
        eval "${argument%%=*}=\${argument#*=}"
        ;;
      *) refuse "unexpected argument '$argument'" ;;
    esac
  done
}

# check_number NAME VALUE PATTERN: refuses a value that is empty, is zero, or has a character that is not in PATTERN.
check_number() {
  case $2 in
    '' | .* | *. | *.*.* | *[!$3]*) refuse "$1 must be a number, not '$2'" ;;
    *[1-9]*) ;;
    *) refuse "$1 must be more than 0" ;;
  esac
}

check_settings() {
  check_number DURATION_SEC "$DURATION_SEC" 0-9.
  check_number EPOCH_SEC "$EPOCH_SEC" 0-9.
  awk -v epoch="$EPOCH_SEC" -v all="$DURATION_SEC" 'BEGIN { exit !(epoch + 0 <= all + 0) }' ||
    refuse "EPOCH_SEC=$EPOCH_SEC is longer than DURATION_SEC=$DURATION_SEC"
  [ -z "$WS" ] || check_number WS "$WS" 0-9
  check_number SEED "$SEED" 0-9
  case $TRACE in
    0 | 1) ;;
    *) refuse "TRACE must be 0 or 1, not '$TRACE'" ;;
  esac
  pin=
  if [ -n "$CPU" ]; then
    case $CPU in
      *[!0-9,-]*) refuse "CPU must be a list of processors such as 1 or 0-1, not '$CPU'" ;;
    esac
    taskset -c "$CPU" true 2>/dev/null || refuse "CPU=$CPU cannot be used here"
    pin="taskset -c $CPU"
  fi
}

# built PACKAGE/FILE: the path of a built file, under `bazel run` or in a checkout.
built() {
  for built_path in "$0.runfiles"/*/"$1" "${RUNFILES_DIR:-/nonexistent}"/*/"$1" "$here/../../bazel-bin/$1"; do
    if [ -e "$built_path" ]; then
      echo "$built_path"
      return 0
    fi
  done
  fail "$1 is not built: ./bazelw build //bench/soak/..."
}

# Finds the worker and the folder for the output. Relative names start at the folder where the command was typed.
find_parts() {
  worker=$(built bench/soak/soak_worker) || exit 1
  case $OUT in
    '') refuse 'OUT must name a folder' ;;
    /*) ;;
    *) OUT=${BUILD_WORKING_DIRECTORY:-.}/$OUT ;;
  esac
  mkdir -p "$OUT" 2>/dev/null || refuse "OUT: cannot make the folder $OUT"
}

# installed PATTERN...: the first library that exists.
installed() {
  for pattern in "$@"; do
    for folder in /usr/local/lib /usr/local/lib64 /usr/lib/*-linux-gnu /lib/*-linux-gnu /usr/lib64 /usr/lib; do
      for file in "$folder"/$pattern; do
        if [ -e "$file" ]; then
          echo "$file"
          return 0
        fi
      done
    done
  done
  return 1
}

# resolve NAME[=LIB.so]: sets `name`, `library` (empty: the C library's own malloc), `preset`, and `kind`, the kind that
# the worker must find.
resolve() {
  name=${1%%=*}
  preset='' kind='' library=''
  case $name in
    '' | *[!A-Za-z0-9_.-]*) refuse "ALLOCATOR: '$1' is not NAME or NAME=LIB.so" ;;
  esac
  case $1 in
    *=*)
      library=${1#*=}
      case $library in
        /*) ;;
        *) library=${BUILD_WORKING_DIRECTORY:-$PWD}/$library ;;
      esac
      case $library in
        *[\ :]*) refuse "ALLOCATOR: '$1' names no library that can be preloaded" ;;
      esac
      [ -f "$library" ] || refuse "ALLOCATOR: no such library: ${1#*=}"
      ;;
    balanced | speed | lean)
      library=$(built bench/lib/libhakmem_standard.so) || exit 1
      preset=$name kind=hakmem
      ;;
    fast)
      library=$(built bench/lib/libhakmem_fast.so) || exit 1
      kind=hakmem
      ;;
    glibc) kind=glibc ;;
    mimalloc) library=$(installed 'libmimalloc.so.2' 'libmimalloc.so.*') || refuse 'ALLOCATOR: mimalloc is not installed' ;;
    jemalloc) library=$(installed 'libjemalloc.so.*') || refuse 'ALLOCATOR: jemalloc is not installed' ;;
    tcmalloc) library=$(installed 'libtcmalloc_minimal.so.*') || refuse 'ALLOCATOR: tcmalloc is not installed' ;;
    *) refuse "ALLOCATOR does not know '$name' (balanced, speed, lean, fast, glibc, mimalloc, jemalloc, tcmalloc, NAME=LIB.so)" ;;
  esac
  case $name in
    mimalloc | jemalloc | tcmalloc) kind=$name ;;
  esac
}

# run_worker ARGUMENT...: runs the worker with the allocator that `resolve` found. Call it in a subshell, which becomes
# the worker.
run_worker() {
  [ -n "$preset" ] && export HAKMEM_PROFILE="$preset"
  unset LD_PRELOAD
  # The library is preloaded only into the worker.
  # shellcheck disable=SC2086  # $pin is a command with its arguments
  if [ -n "$library" ]; then
    exec $pin env LD_PRELOAD="$library" "$worker" "$@"
  else
    exec $pin "$worker" "$@"
  fi
}

# Splits ALLOCATOR into `allocators`, and checks that each name is really that allocator, because ld.so continues
# without a library that it cannot load.
choose_allocators() {
  case ,$ALLOCATOR, in
    *,,*) refuse "ALLOCATOR must be names with commas between, not '$ALLOCATOR'" ;;
  esac
  allocators=$(echo "$ALLOCATOR" | tr ',' ' ')
  seen=' '
  for allocator in $allocators; do
    resolve "$allocator"
    case $seen in
      *" $name "*) refuse "ALLOCATOR names '$name' twice" ;;
    esac
    seen="$seen$name "
    identity=$(run_worker --identity 2>&1) || fail "$name does not run: $identity"
    case $identity in
      *'cannot be preloaded'*) fail "$name: $identity" ;;
      "Allocator = $kind"*"("*) ;;
      *) fail "$name is not what it is named: $identity" ;;
    esac
    if [ -n "$library" ] && [ "$kind" = '' ]; then
      case $identity in
        *"($library)") ;;
        *) fail "$name: malloc does not come from the library named: $identity" ;;
      esac
    fi
    echo "$name: ${identity#Allocator = }" | sed 's, (.*/, (,'
  done >"$OUT/run.txt.new"
  # The loop ran in a subshell: a refusal in it is known from the file.
  {
    echo "$prog $(for s in $settings; do eval "[ \"$s\" = OUT ] || echo \"$s=\$$s\""; done | tr '\n' ' ')"
    date -u '+%Y-%m-%d %H:%M UTC'
    echo "$(uname -srm), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1-3 /proc/loadavg)"
    cat "$OUT/run.txt.new"
  } >"$OUT/run.txt"
  rm -f "$OUT/run.txt.new"
}

# The options that both scripts pass to every worker.
common_options() {
  options="--duration $DURATION_SEC --epoch $EPOCH_SEC --seed $SEED"
  [ -z "$WS" ] || options="$options --ws $WS"
  [ "$TRACE" = 1 ] || options="$options --no-trace"
}
