#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that sandboxes itself after its start works with hakmem as its malloc, however it got it.

usage: sandboxed_test.py PLAIN [PROFILE LIBRARY DYNAMIC STATIC]...

PLAIN has the C library's malloc, and runs with LIBRARY preloaded; DYNAMIC and STATIC are linked with hakmem. Each runs
again with a system call that its filter forbids, which must kill it: otherwise the filter would prove nothing.
"""
import os
import signal
import subprocess
import sys


def run(command, library=None):
    environment = {"PATH": os.environ.get("PATH", "")}
    if library:
        environment["LD_PRELOAD"] = library
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def problems(what, profile, command, library=None):
    done = run(command, library)
    if done.returncode != 0 or (" %s " % profile).encode() not in done.stdout:
        yield "%s: ended with %d: %r" % (what, done.returncode, done.stdout)
    broken = run(command + ["break"], library)
    if broken.returncode != -signal.SIGSYS:
        yield "%s: a forbidden call ended it with %d: %r" % (what, broken.returncode, broken.stdout)


def main():
    plain, *rest = sys.argv[1:]
    plain = os.path.abspath(plain)
    found = []
    if run([plain]).returncode != 1:
        found.append("without hakmem the program does not notice it")
    forms = 0
    for at in range(0, len(rest), 4):
        profile, (library, dynamic, static) = rest[at], map(os.path.abspath, rest[at + 1:at + 4])
        for what, command, preload in (("preloaded", plain, library), ("dynamic", dynamic, None), ("static", static, None)):
            found += problems("%s, %s" % (profile, what), profile, [command], preload)
            forms += 1
    for problem in found:
        print("FAILED:", problem)
    if found or forms == 0:
        sys.exit(1)
    print("%d programs work in their sandbox" % forms)


if __name__ == "__main__":
    main()
