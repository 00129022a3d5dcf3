#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests the package with the go command, offline, against installed trees of hakmem: check.sh STANDARD_PREFIX HARDENED_PREFIX
#
# HARDENED checks the size of every free, so it must also end a copy of the package that passes a wrong one.

set -eu
[ $# -eq 2 ] || { sed -n 's/^# .*: \(check.sh .*\)/usage: \1/p' "$0" >&2; exit 2; }
cd "$(dirname "$0")"
standard=$(realpath "$1")
hardened=$(realpath "$2")
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
# Nothing of the user's settings, no network, and nothing is written into the tree.
export GOENV=off GOFLAGS= GOPROXY=off GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=1
export GOCACHE=$scratch/cache GOPATH=$scratch/path

# on PREFIX COMMAND...: with the library that is installed there.
on() {
  local prefix=$1
  shift
  PKG_CONFIG_PATH=$prefix/lib/pkgconfig CGO_LDFLAGS=-Wl,-rpath,$prefix/lib "$@"
}

# serves PREFIX PROFILE: the program runs on that build of hakmem.
serves() {
  local said
  said=$(on "$1" go run ./words)
  echo "$said"
  case $said in
    "hakmem "*" $2 header="*": 10000 texts; "*true) ;;
    *) echo "not on the $2 build"; exit 1 ;;
  esac
}

go version
echo '---- STANDARD'
on "$standard" go vet ./...
on "$standard" go test -count=1 ./...
serves "$standard" standard

echo '---- HARDENED'
on "$hardened" go test -count=1 ./...
serves "$hardened" hardened

echo '---- a wrong size is noticed'
cp -r . "$scratch/wrong"
sed -i 's/hak_free_sized(address(b), C.size_t(cap(b)))/hak_free_sized(address(b), C.size_t(cap(b)+1))/' "$scratch/wrong/hakmem.go"
if cmp -s hakmem.go "$scratch/wrong/hakmem.go"; then
  echo 'nothing was changed'
  exit 1
fi
status=0
(cd "$scratch/wrong" && on "$hardened" go run ./words) >"$scratch/error" 2>&1 || status=$?
grep hakmem: "$scratch/error"
[ $status -ne 0 ] && grep -q 'hakmem: free with a wrong size' "$scratch/error"
echo 'the Go example holds'
