#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests the crate with cargo, offline, against installed trees of hakmem: check.sh STANDARD_PREFIX HARDENED_PREFIX
#
# The shared library and the archive, found by LIBHAKMEM_DIR and by pkg-config. HARDENED checks the size of every free,
# so it must also end a copy of the crate that passes a wrong one.

set -eu
[ $# -eq 2 ] || { sed -n 's/^# .*: \(check.sh .*\)/usage: \1/p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
standard=$(realpath "$1")
hardened=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Nothing of the user's settings, and nothing is written into the tree.
export CARGO_HOME=$scratch/home CARGO_TARGET_DIR=$scratch/target
unset LIBHAKMEM_DIR PKG_CONFIG_PATH RUSTFLAGS

# serves PROFILE ARG...: the program of the examples runs on that build of hakmem.
serves() {
  local profile=$1 said
  shift
  said=$(cargo run --offline --locked --quiet --example words "$@")
  echo "$said"
  case $said in
    "hakmem "*" $profile header="*": 12000 times"*) ;;
    *) echo "not on the $profile build"; exit 1 ;;
  esac
}

cargo --version
echo '---- the shared library'
LIBHAKMEM_DIR=$standard/lib cargo test --offline --locked
LIBHAKMEM_DIR=$standard/lib serves standard
readelf -dW "$scratch/target/debug/examples/words" | grep -F '[libhakmem.so.0]'

echo '---- the archive, by pkg-config'
PKG_CONFIG_PATH=$standard/lib/pkgconfig cargo test --offline --locked --features static
PKG_CONFIG_PATH=$standard/lib/pkgconfig serves standard --features static
if readelf -dW "$scratch/target/debug/examples/words" | grep -F libhakmem; then
  echo 'the shared library is used as well'
  exit 1
fi

echo '---- HARDENED'
LIBHAKMEM_DIR=$hardened/lib cargo test --offline --locked
LIBHAKMEM_DIR=$hardened/lib serves hardened

echo '---- a wrong size is noticed'
cp -r . "$scratch/wrong"
sed -i 's/hak_free_sized(block.cast(), layout.size())/hak_free_sized(block.cast(), layout.size() + 1)/' "$scratch/wrong/src/lib.rs"
if cmp -s src/lib.rs "$scratch/wrong/src/lib.rs"; then
  echo 'nothing was changed'
  exit 1
fi
status=0
LIBHAKMEM_DIR=$hardened/lib cargo run --offline --locked --quiet --manifest-path "$scratch/wrong/Cargo.toml" \
  --example words 2>"$scratch/error" || status=$?
cat "$scratch/error"
[ $status -ne 0 ] && grep -q 'hakmem: free with a wrong size' "$scratch/error"

echo '---- without the library'
status=0
env PKG_CONFIG_PATH="$scratch" PKG_CONFIG_LIBDIR="$scratch" cargo build --offline --locked 2>"$scratch/error" || status=$?
[ $status -ne 0 ] && grep -q 'Set LIBHAKMEM_DIR to the folder of libhakmem.so' "$scratch/error"
echo 'the Rust example holds'
