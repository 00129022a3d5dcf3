#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# fake_pages_test.sh PAGE_SIZE LIBFAKE_PAGES_SO TEST...: runs each test on a kernel with pages of that many bytes,
# imitated by fake_pages.c. First it checks that a program which assumes pages of 4 KiB fails.

set -u

page_size=$1
library=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
shift 2
scratch=${TEST_TMPDIR:-$(mktemp -d)}

run() {
  HAK_TEST_PAGE_SIZE=$page_size LD_PRELOAD=$library "$@"
}

if [ "$(run getconf PAGESIZE)" != "$page_size" ]; then
  echo "FAILED: the fake does not tell its page size"
  exit 1
fi
cat >"$scratch/naive.py" <<'END'
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0))
END
if run python3 "$scratch/naive.py" >"$scratch/log" 2>&1 || ! grep -q 'fake_pages: mmap: not whole pages' "$scratch/log"; then
  echo "FAILED: a mapping of 4096 bytes went through"
  exit 1
fi

failed=0
for test in "$@"; do
  # The page purge returns pages within a slab. If a page is as large as a slab there are none.
  if [ "$page_size" -ge 65536 ]; then
    case $test in */page_purge_test) continue ;; esac
  fi
  if run "$test" >"$scratch/log" 2>&1; then
    echo "passed $test"
  else
    echo "FAILED $test with pages of $page_size bytes (exit status $?)"
    tail -n 60 "$scratch/log"
    failed=1
  fi
done
exit $failed
