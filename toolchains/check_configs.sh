#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks every configuration and combination by an analysis of //allocator:libhakmem.so: it is built by the named
# compiler for the named machine, or refused with a reason. Nothing is compiled except planted bugs that the compiler
# must refuse, one box with settings, and the override under sanitizers.
#
#   toolchains/check_configs.sh
#
# Exits 0 when all is as written here, 1 when not, 2 for a bad call.

set -u

[ $# -eq 0 ] || {
  echo "usage: check_configs.sh" >&2
  exit 2
}
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cases=0
bad=0

wrong() {
  echo "FAILED $1" >&2
  sed 's/^/    /' "$scratch/log" | tail -n 25 >&2
  bad=$((bad + 1))
}

# refused REASON OPTION...: the build must stop before anything is compiled, and print REASON.
refused() {
  reason=$1
  shift
  cases=$((cases + 1))
  if ./bazelw build --nobuild --color=no --noshow_progress "$@" //allocator:libhakmem.so >"$scratch/log" 2>&1; then
    wrong "not refused: $*"
  elif ! grep -qF -- "$reason" "$scratch/log"; then
    wrong "not refused with \"$reason\": $*"
  fi
}

# used COMPILER FLAGS OPTION...: a file of the allocator must be compiled by COMPILER, with every one of FLAGS.
used() {
  compiler=$1
  flags=$2
  shift 2
  cases=$((cases + 1))
  if ! ./bazelw aquery --color=no --noshow_progress "$@" 'mnemonic("CppCompile", //allocator/os:os)' \
    >"$scratch/log" 2>"$scratch/errors"; then
    cat "$scratch/errors" >>"$scratch/log"
    wrong "refused: $*"
    return
  fi
  for flag in "(exec $compiler " $flags; do
    # aquery writes the command on several lines, one option on each.
    tr -d "'\\\\" <"$scratch/log" | grep -qF -- "${flag#(exec }" || wrong "no \"$flag\": $*"
  done
}

gcc=/usr/bin/gcc
clang=/usr/bin/clang-19
cross=/usr/bin/aarch64-linux-gnu-gcc

# ---- Supported configurations ----------------------------------------------------------------------------------------
used "$gcc" ''
used "$gcc" '' --config=gcc
used "$gcc" '' --config=gcc --config=x86_64
used /usr/bin/musl-gcc '' --config=musl
used "$clang" '-Wthread-safety' --config=clang
used "$clang" '' --config=x86_64 --config=clang
used "$cross" '' --config=aarch64
used "$cross" '' --config=gcc --config=aarch64
used "$clang" '--target=aarch64-linux-gnu' --config=aarch64 --config=clang
used "$clang" '--target=aarch64-linux-gnu' --config=clang --config=aarch64
used "$clang" '--target=aarch64-linux-gnu' --config=aarch64-clang
used "$clang" '-fsanitize=address' --config=asan
used "$clang" '-fsanitize=undefined' --config=ubsan
used "$clang" '-fsanitize=thread' --config=tsan
used "$clang" '-fsanitize=memory' --config=msan
used "$clang" '-fsanitize=address -fsanitize=fuzzer-no-link' --config=asan-libfuzzer
used "$gcc" '-fsanitize=address' --features=asan
used "$gcc" '-fsanitize=undefined' --features=ubsan
used "$gcc" '-fsanitize=thread' --features=tsan
used "$cross" '-fsanitize=address' --config=aarch64 --features=asan
used "$gcc" '-flto=auto' --config=lto
used "$gcc" '-flto' --config=full-lto
used "$clang" '-flto=thin' --config=clang --config=lto
used "$clang" '-flto=full' --config=clang --config=full-lto
used "$cross" '-flto=auto' --config=aarch64 --config=lto
used "$clang" '-flto=thin --target=aarch64-linux-gnu' --config=aarch64-clang --config=lto
used "$gcc" '-fprofile-generate=/p' --config=pgo-generate --//toolchains/cc:pgo_profile=/p
used "$gcc" '-fprofile-use=/p' --config=pgo-use --//toolchains/cc:pgo_profile=/p
used "$clang" '-fprofile-use=/p' --config=clang --config=pgo-use --//toolchains/cc:pgo_profile=/p
used "$gcc" '-DHAK_PROFILE_FAST=1' --config=fast
used "$clang" '-DHAK_PROFILE_OBSERVE=1' --config=observe --config=clang
used "$cross" '-DHAK_PROFILE_HARDENED=1' --config=hardened --config=aarch64

# ---- Refused configurations ------------------------------------------------------------------------------------------
refused "'nonsense' is not defined" --config=nonsense
refused '--features=nonsense is unknown' --features=nonsense
refused 'nonsense' --//configs:profile=nonsense
refused 'nonsense' --//configs:header=nonsense
refused '--config=gcc and --config=clang exclude each other' --config=gcc --config=clang
refused '--config=gcc and --config=clang exclude each other' --config=asan --config=gcc
refused '--config=gcc and --config=clang exclude each other' --config=aarch64-clang --config=gcc
refused '--config=clang and --config=musl exclude each other' --config=musl --config=clang
refused '--config=aarch64 and --config=musl exclude each other' --config=musl --config=aarch64
refused 'asan exists with glibc alone' --config=musl --features=asan
refused '--config=x86_64 and --config=aarch64 exclude each other' --config=aarch64 --config=x86_64
refused '--config=fast and --config=observe exclude each other' --config=fast --config=observe
refused '--config=observe and --config=hardened exclude each other' --config=hardened --config=observe
refused 'asan and tsan exclude each other' --config=tsan --config=asan
refused 'asan and msan exclude each other' --config=asan --config=msan
refused 'asan and tsan exclude each other' --config=asan-libfuzzer --features=tsan
refused 'gcc has no msan' --features=msan
refused 'gcc has no fuzzer' --features=fuzzer
refused "Debian has no runtime of clang's asan for aarch64" --config=asan --config=aarch64
refused "Debian has no runtime of clang's ubsan for aarch64" --config=aarch64 --config=ubsan
refused "Debian has no runtime of clang's tsan for aarch64" --config=aarch64-clang --features=tsan
refused "Debian has no runtime of clang's fuzzer for aarch64" --config=aarch64-clang --features=fuzzer
refused 'lto and full_lto exclude each other' --config=lto --config=full-lto
refused 'pgo needs --//toolchains/cc:pgo_profile=' --config=pgo-use
refused 'pgo needs --//toolchains/cc:pgo_profile=' --config=pgo-generate --//toolchains/cc:pgo_profile=here
refused 'pgo_generate and pgo_use exclude each other' --config=pgo-generate --config=pgo-use --//toolchains/cc:pgo_profile=/p
refused 'asan and pgo exclude each other' --config=asan --config=pgo-use --//toolchains/cc:pgo_profile=/p
refused 'coverage_is_measured_with_gcc' --collect_code_coverage --config=clang

# ---- Machines without hakmem -----------------------------------------------------------------------------------------
all=--extra_toolchains=//toolchains/planted:toolchain_for_all
for machine in other_processor other_system; do
  refused 'is incompatible and cannot be built' "$all" "--platforms=//toolchains/planted:$machine"
  refused 'is incompatible and cannot be built' "$all" "--platforms=//toolchains/planted:$machine" //:malloc
done

# ---- Labels that are not the malloc ------------------------------------------------------------------------------------
# pprof_header is not public.
cases=$((cases + 1))
libraries=$(./bazelw query --noshow_progress 'kind("cc_library rule", //allocator:all)' 2>"$scratch/log")
case $libraries in
  *//allocator:hakmem*) ;;
  *) wrong 'no libraries found' ;;
esac
for library in $libraries; do
  case $library in
    //allocator:pprof_header) ;;
    //allocator:malloc | //allocator:malloc_for_plugins)
      cases=$((cases + 1))
      ./bazelw build --nobuild --color=no --noshow_progress "--custom_malloc=$library" //packaging/run:program_dynamic >"$scratch/log" 2>&1 ||
        wrong "--custom_malloc=$library is refused"
      ;;
    *)
      refused "--custom_malloc=@hakmem$library leaves the C library's malloc in every program: --custom_malloc=@hakmem//allocator:malloc" \
        "--custom_malloc=$library"
      ;;
  esac
done
for name in //allocator:libhakmem //allocator:libhakmem.a //:libhakmem //:libhakmem.a //:libhakmem.so; do
  refused 'a program has hakmem'"'"'s malloc by malloc = "@hakmem//allocator:malloc"; the library for LD_PRELOAD is @hakmem//allocator:libhakmem.so' "$name"
done

# ---- A machine without compilers: the probe searches an empty folder -------------------------------------------------
mkdir "$scratch/empty" || exit 1
bare=--repo_env=HAKMEM_TEST_PROBE_ROOT=$scratch/empty
refused 'apt-get install g++ gcc libc6-dev' "$bare"
refused 'apt-get install clang-19 g++ libc6-dev lld-19 llvm-19' "$bare" --config=clang
refused 'apt-get install g++-aarch64-linux-gnu gcc-aarch64-linux-gnu libc6-dev-arm64-cross' "$bare" --config=aarch64
refused 'apt-get install clang-19 g++-aarch64-linux-gnu libc6-dev-arm64-cross lld-19 llvm-19' "$bare" --config=aarch64-clang

# With compilers, but without the runtimes of the sanitizers.
mkdir -p "$scratch/half/usr/bin" "$scratch/half/usr/include" || exit 1
for tool in clang-19 g++ ld.lld-19 llvm-ar-19; do ln -s "/usr/bin/$tool" "$scratch/half/usr/bin/$tool" || exit 1; done
: >"$scratch/half/usr/include/malloc.h"
refused 'apt-get install libclang-rt-19-dev' "--repo_env=HAKMEM_TEST_PROBE_ROOT=$scratch/half" --config=asan

# ---- Settings of the build ----------------------------------------------------------------------------------------------
# settings SETTINGS: whether code with these settings is compiled.
settings() {
  cases=$((cases + 1))
  ./bazelw build --color=no --noshow_progress "--//configs:conf=$1" //allocator/gate:gate_start >"$scratch/log" 2>&1
}

settings 'profile=lean,thread_cache_kb=1M' || wrong 'right settings do not compile'
if settings 'profil=lean'; then
  wrong 'a misspelt setting compiles'
elif ! grep -qx 'hakmem: //configs:conf: "profil=lean" is not accepted; .*; the nearest is HAKMEM_PROFILE' "$scratch/log"; then
  wrong 'a misspelt setting fails without the nearest name'
fi

# ---- Sanitizers with a malloc of their own ------------------------------------------------------------------------------
# left_to COMPILER SANITIZER: with this sanitizer, as any build passes it, the override has nothing but its name, and the
# compiler notes why.
left_to() {
  cases=$((cases + 1))
  object=$scratch/override.o
  for source in libc_override cxx_override; do
    if ! "$1" -std=c17 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE=1 -I. -Iallocator/include "-fsanitize=$2" -c \
      "allocator/api/$source.c" -o "$object" >"$scratch/log" 2>&1; then
      wrong "$source.c does not compile: $1 -fsanitize=$2"
      return
    fi
    case $source in
      libc_override)
        grep -qF "hakmem: a sanitizer is on, so this program gets the sanitizer's malloc instead of hakmem's" "$scratch/log" ||
          wrong "no note: $1 -fsanitize=$2"
        nm "$object" | grep -q ' hak_override_sanitized$' || wrong "no name: $1 -fsanitize=$2"
        ;;
      cxx_override) [ ! -s "$scratch/log" ] || wrong "a second note: $1 -fsanitize=$2" ;;
    esac
    nm --defined-only "$object" >"$scratch/log"
    if grep -qE ' (hak_override_malloc|malloc|free|calloc|realloc|_Zn.*|_Zd.*)$' "$scratch/log"; then
      wrong "$source.c has a malloc: $1 -fsanitize=$2"
    fi
  done
}

for sanitizer in address thread; do left_to "$gcc" $sanitizer; done
for sanitizer in address thread memory hwaddress; do left_to "$clang" $sanitizer; done
for sanitizer in address thread hwaddress; do left_to "$cross" $sanitizer; done

# ---- Accesses without a lock --------------------------------------------------------------------------------------------
# lock_bug NAME: whether clang compiles toolchains/planted/lock_bug.c with that bug.
lock_bug() {
  ./bazelw build --config=clang --color=no --noshow_progress "//toolchains/planted:lock_bug_$1" >"$scratch/log" 2>&1
}

cases=$((cases + 1))
lock_bug none || wrong 'lock_bug.c without a bug does not compile'
for bug in read write call other_lock kept twice; do
  cases=$((cases + 1))
  if lock_bug "$bug"; then
    wrong "lock_bug.c compiles with the bug \"$bug\""
  elif ! grep -qF -- '-Werror,-Wthread-safety-analysis' "$scratch/log"; then
    wrong "lock_bug.c fails with the bug \"$bug\", but not for it"
  fi
done

# Only the test that needs the emulator reports that it is missing.
cases=$((cases + 1))
printf '\177ELF' >"$scratch/program"
HAKMEM_TEST_QEMU_AARCH64=$scratch/none toolchains/qemu_aarch64.sh "$scratch/program" >"$scratch/log" 2>&1
status=$?
if [ $status -ne 127 ] || ! grep -qF 'apt-get install qemu-user' "$scratch/log"; then
  wrong "the missing emulator: exit status $status"
fi

echo "check_configs.sh: $cases cases, $bad wrong"
[ $bad -eq 0 ]
