#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Libraries that wrap functions of the C library and allocate in them, preloaded before the allocator and behind it; and
a thread whose cancellation is pending. Neither may hang, nor lose what the allocator says.

usage: hook_test.py HOOK_LIBRARY CHILD LIBRARY...
"""

import os
import re
import subprocess
import sys

HOOKS = ("mmap munmap mremap mprotect madvise open openat read write close getrandom clock_gettime syscall nanosleep poll "
         "sigprocmask pthread_sigmask prctl getrlimit getenv secure_getenv getauxval sysconf pthread_key_create "
         "pthread_setspecific pthread_create pthread_attr_init pthread_attr_setstacksize memcpy memmove memset memcmp bcmp memchr "
         "strlen strnlen strcmp strncmp strchr strcspn strstr").split()
WATCHDOG_SECONDS = 30
SIGABRT = -6


def run(command, environment):
    """The result, or None when it hung."""
    base = {key: value for key, value in os.environ.items() if not key.startswith(("HAKMEM_", "LD_"))}
    try:
        return subprocess.run(command, env={**base, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=WATCHDOG_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def check_hooks(hook, child, library):
    # Even if they are loaded after the allocator, wrappers of names that the allocator does not define come first.
    for name in HOOKS:
        for order in (f"{hook}:{library}", f"{library}:{hook}"):
            for settings in ({}, {"HAKMEM_BACKGROUND": "1"}) if order.startswith(hook) else ({},):
                result = run([child], {"LD_PRELOAD": order, "HOOK": name, **settings})
                if result is None:
                    yield f"{name} {order} {settings}: hangs"
                elif result.returncode != 0 or result.stdout != "done\n":
                    yield f"{name} {order} {settings}: {result}"


def check_cancel(child, library):
    result = run([child, "cancel"], {"LD_PRELOAD": library})
    if result is None:
        yield "cancel: hangs"
        return
    if result.returncode != 0 or not result.stdout.endswith("</malloc>\ncancelled\n"):
        yield f"cancel: {result}"
    if not re.search(r"^hakmem: peak mapped bytes = \d+$", result.stderr, re.MULTILINE):
        yield f"cancel: malloc_stats lost its output: {result}"
    if "observe" in library or "standard" in library:
        result = run([child, "cancel"], {"LD_PRELOAD": library, "MISUSE": "1"})
        if result is None or result.returncode != SIGABRT or "double free" not in result.stderr:
            yield f"a double free with a cancellation pending: {result}"


def main():
    hook, child, *libraries = map(os.path.abspath, sys.argv[1:])
    if not libraries:
        sys.exit("no library given")
    found = []
    for library in libraries:
        found += list(check_hooks(hook, child, library)) + list(check_cancel(child, library))
    for problem in found:
        print("FAILED:", problem)
    if found:
        sys.exit(1)
    print(f"{len(libraries)} libraries, {len(HOOKS)} wrapped functions: as expected")


if __name__ == "__main__":
    main()
