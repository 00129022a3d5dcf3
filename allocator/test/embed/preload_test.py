#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that bring a part of the allocation functions, or a plugin in C++, run as well under LD_PRELOAD.

usage: preload_test.py --program=PROGRAM... --library=LIBRARY...

Each runs on the C library first: what fails there shows nothing about the allocator.
"""
import os
import subprocess
import sys

TIMEOUT = 60
OWN_MALLOC_CASES = 9
# New programs cannot link glibc's cfree, and it does not accept other allocators' blocks.
NOT_WITHOUT = {"own_malloc 6"}


def command_lines(programs):
    by_name = {os.path.basename(path): os.path.abspath(path) for path in programs}
    yield [by_name["c_host"], by_name["libthrowing_plugin.so"]]
    for case in range(OWN_MALLOC_CASES):
        yield [by_name["own_malloc"], str(case)]
    for name in sorted(by_name):
        if name.startswith("replaced_forms_"):
            yield [by_name[name]]


def run(command, library):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAKMEM_")}
    environment["LD_PRELOAD"] = library
    try:
        done = subprocess.run(command, env=environment, check=False, timeout=TIMEOUT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        return "still running after %d s" % TIMEOUT, ""


def main():
    programs = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--program=")]
    libraries = [os.path.abspath(word.partition("=")[2]) for word in sys.argv[1:] if word.startswith("--library=")]
    if not programs or not libraries:
        print(__doc__, file=sys.stderr)
        return 2
    failures = runs = 0
    for command in command_lines(programs):
        name = " ".join([os.path.basename(command[0])] + command[1:] if len(command) > 1 and command[1].isdigit()
                        else [os.path.basename(command[0])])
        for library in [""] + libraries:
            if not library and name in NOT_WITHOUT:
                continue
            status, output = run(command, library)
            runs += 1
            if status != 0:
                failures += 1
                print("FAILED %s on %s: %s\n%s" % (name, os.path.basename(library) or "the C library", status, output))
    # If there is one more case, OWN_MALLOC_CASES is wrong.
    own_malloc = next(os.path.abspath(path) for path in programs if os.path.basename(path) == "own_malloc")
    if run([own_malloc, str(OWN_MALLOC_CASES)], "")[0] != 2:
        failures += 1
        print("FAILED own_malloc has more cases than are run")
    print("%d runs, %d failed" % (runs, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
