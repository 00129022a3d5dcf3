#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds and tests this tree with Bazel 7, which Debian has only in sid: in a temporary root of sid, with its compilers,
# C library and googletest.
#
#   toolchains/check_bazel7.sh [-r ROOT] [STEP...]
#
#   -r ROOT   makes the root there and keeps it; one that exists already is used as it is (default: one made and removed)
#   STEP      loads module-gcc module-clang workspace-gcc workspace-clang aarch64 fuzz consumer examples (default: all)
#
# Needs root, the package mmdebstrap, a Debian mirror, 4 GB of disk and, on two cores, about 15 minutes. What runs in the
# root has a mount and a process table of its own, so that nothing of it stays behind.
# Prints a line for each step. Exits 0 when all passed, 1 when one failed, 2 for a bad call or where it cannot run.

set -u

all_steps='loads module-gcc module-clang workspace-gcc workspace-clang aarch64 fuzz consumer examples'

usage() {
  echo "usage: check_bazel7.sh [-r ROOT] [STEP...]   (steps: $all_steps)" >&2
  exit 2
}

root=''
while getopts r: option; do
  case $option in
    r) root=$OPTARG ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
# shellcheck disable=SC2086  # words
[ $# -gt 0 ] || set -- $all_steps
for step in "$@"; do
  case " $all_steps " in
    *" $step "*) ;;
    *) usage ;;
  esac
done

cannot() {
  echo "check_bazel7.sh: $1" >&2
  exit 2
}
[ "$(id -u)" -eq 0 ] || cannot 'making a root needs root'
command -v mmdebstrap >/dev/null 2>&1 || cannot 'no mmdebstrap: apt-get install mmdebstrap'

cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
[ -n "$root" ] || root=$scratch/root
mkdir -p "$root" || exit 1
root=$(cd "$root" && pwd -P) || exit 1
case $root in
  /) cannot 'that root is the one in use' ;;
  *[!A-Za-z0-9_./-]*) cannot "$root has characters that a chroot had better not have" ;;
esac

if [ ! -x "$root/usr/bin/bazel" ]; then
  [ -z "$(ls -A "$root")" ] || cannot "$root holds something else"
  # Bazel, and the installed packages that this tree uses. bazelw installs the rest there.
  mmdebstrap --quiet --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase \
    --include=bazel-bootstrap,bazel-rules-cc,bazel-rules-java,bazel-rules-python,bazel-skylib,bazel-platforms \
    --include=gcc,g++,libc6-dev,python3-minimal,python3,default-jdk-headless,googletest,procps \
    sid "$root" || cannot 'the root of sid could not be made'
fi
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/etc/resolv.conf"
rm -rf "$root/hakmem" "$root/consumer"
. toolchains/copies.sh
copy_tree "$root/hakmem" && mkdir -p "$root/consumer" || exit 1

# inside COMMAND: runs the command by a shell in the root. All mounts end with the last process.
inside() {
  # shellcheck disable=SC2016  # for the inner shell
  unshare --mount --pid --fork --kill-child sh -c '
    mount --make-rprivate / && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 1
    exec chroot "$1" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "$2"
  ' sh "$root" "$1"
}

# The tests that show that a build of each kind works. All tests of the allocator run once, in module-gcc.
some='//allocator/api/... //allocator/os/... //allocator/block/... //allocator/slab/... //allocator/heap/... //allocator/test:override_test
  //allocator/test:override_static_test //allocator/test:override_new_test //allocator/test:threads_test
  //allocator/test:misuse_test'
some=$(echo "$some" | tr -s ' \n' ' ')
# A disk cache below the HOME of the root that is made here, so that two ways of naming the same sources compile them
# once.
options='--config=ci --disk_cache=/root/disk_cache --build_tests_only --test_tag_filters=-other-profile'
for_machine='--test_tag_filters=-other-profile,-host-only --test_size_filters=small'
bazel7='cd /hakmem && ./bazelw'

consumer() {
  cat >"$root/consumer/main.c" <<'END'
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>

// Exits 0 when the blocks of malloc are hakmem's.
int main(void) {
  void *volatile blocks[100];
  struct hak_stats before, after;
  before.version = HAK_STATS_VERSION;
  after.version = HAK_STATS_VERSION;
  if (hak_stats_get(&before) != 0) return 2;
  for (int i = 0; i < 100; i++) blocks[i] = malloc(5000);
  if (hak_stats_get(&after) != 0) return 2;
  for (int i = 0; i < 100; i++) free(blocks[i]);
  printf("%d blocks of malloc\n", (int)(after.live_blocks - before.live_blocks));
  return after.live_blocks - before.live_blocks == 100 ? 0 : 1;
}
END
  cat >"$root/consumer/BUILD.bazel" <<'END'
load("@rules_cc//cc:defs.bzl", "cc_test")
[cc_test(
    name = name,
    srcs = ["main.c"],
    linkopts = linkopts,
    linkstatic = True,
    malloc = "@hakmem//allocator:malloc",
    deps = ["@hakmem//allocator:headers"],
) for name, linkopts in {
    "dynamic_test": [],
    "static_test": ["-static"],
}.items()]
END
  cat >"$root/consumer/MODULE.bazel" <<'END'
module(name = "consumer")
bazel_dep(name = "hakmem", version = "0.1.0")
bazel_dep(name = "rules_cc", version = "0.1.4")
local_path_override(
    module_name = "hakmem",
    path = "/hakmem",
)
END
  cat >"$root/consumer/WORKSPACE" <<'END'
workspace(name = "consumer")
local_repository(name = "hakmem", path = "/hakmem")
local_repository(name = "bazel_skylib", path = "/usr/share/bazel/tools/skylib")
local_repository(name = "platforms", path = "/usr/share/bazel/tools/platforms")
local_repository(name = "rules_cc", path = "/usr/share/bazel/rules/cc")
local_repository(name = "rules_java", path = "/usr/share/bazel/rules/java")
local_repository(name = "rules_python", path = "/usr/share/bazel/rules/python")
load("@hakmem//configs:repositories.bzl", "hakmem_repositories")
hakmem_repositories()
END
  # Modules that Bazel's own modules request from a registry and that are not needed here: see third_party/README.md.
  offline='--lockfile_mode=off'
  for module in apple_support buildozer protobuf zlib; do
    offline="$offline --override_module=$module=/hakmem/third_party/offline/$module"
  done
  offline="$offline --override_module=rules_shell=/hakmem/third_party/rules_shell"
  common='--color=no --curses=no --noshow_progress --test_output=errors'
  inside "cd /consumer && bazel test $common $offline //... &&
    bazel test $common $offline --@hakmem//configs:profile=observe //... &&
    bazel test $common --enable_workspace --noenable_bzlmod //... &&
    bazel test $common $offline --custom_malloc=@hakmem//allocator:malloc //..."
}

failed=0
for step in "$@"; do
  start=$(date +%s)
  case $step in
    loads) inside 'cd /hakmem && python3 .ci/loads.py --modules' ;;
    module-gcc) inside "$bazel7 test $options --test_size_filters=small //allocator/... //configs/... //docs/... //fuzz:all" ;;
    module-clang) inside "$bazel7 test $options --config=clang $some" ;;
    workspace-gcc) inside "$bazel7 test $options --config=workspace7 $some" ;;
    workspace-clang) inside "$bazel7 test $options --config=workspace7 --config=clang $some" ;;
    aarch64)
      inside "$bazel7 test $options --config=aarch64 $for_machine //allocator/os/... //allocator/block/... //allocator/slab/... //allocator/heap/... \
        //allocator/test:override_test //allocator/test:override_static_test &&
        $bazel7 build --config=ci --config=aarch64-clang //allocator:libhakmem.so"
      ;;
    fuzz)
      inside "$bazel7 build --config=ci --config=asan-libfuzzer //fuzz:heap_ops_fuzzer_bin &&
        mkdir -p /tmp/corpus && bazel-bin/fuzz/heap_ops_fuzzer_bin -seed=1 -runs=5000 /tmp/corpus fuzz/corpus/heap_ops_fuzzer &&
        $bazel7 test --config=ci --config=asan //toolchains/planted:asan_catches"
      ;;
    consumer) consumer ;;
    # bazelw installs what the service needs. It runs in the example's folder because of the paths in its .bazelrc.
    examples)
      inside 'for example in service embedding; do
        cd "/hakmem/examples/$example" || exit 1
        for way in bzlmod7 workspace7; do ../../bazelw test --config=ci "--config=$way" //... || exit 1; done
      done'
      ;;
  esac >"$scratch/log" 2>&1
  status=$?
  seconds=$(($(date +%s) - start))
  if [ $status -eq 0 ]; then
    echo "PASSED $step in $seconds s: $(grep -E '^Executed|^Done|tests? pass' "$scratch/log" | tail -n 4 | tr '\n' ' ')"
  else
    echo "FAILED $step in $seconds s (exit status $status)"
    grep -vE '^(//.* PASSED|Loading|INFO)' "$scratch/log" | tail -n 80
    failed=1
  fi
done
exit $failed
