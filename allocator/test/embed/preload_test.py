#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that bring a part of the allocation functions, or a plugin in C++, run as well under LD_PRELOAD.

usage: preload_test.py --program=PROGRAM... --library=LIBRARY...

Each runs on the C library first: what fails there shows nothing about the allocator.
"""
import os
import re
import subprocess
import sys

TIMEOUT = 60
SIGABRT = -6
OWN_MALLOC_CASES = 9
# New programs cannot link glibc's cfree, and it does not accept other allocators' blocks.
NOT_WITHOUT = {"own_malloc 6"}


# Plugins for c_host, which are loaded and run in this order; global: visible to those that are loaded later. The third has
# the only parts of a C++ runtime that operator new needs. Of the caller in last_act the runtime is not known. In the last
# four, two runtimes could be taken for each other.
PLUGINS = ["throwing", "static", "bare", "symbolic", "hidden", "last_act", "static bare throwing symbolic hidden",
           "global:throwing static", "static global:throwing", "global:static throwing", "throwing global:static"]
# Which operator new they call, under LD_PRELOAD: their own if it is hidden or bound to them. It calls our malloc.
OWN_OPERATORS = {"symbolic", "hidden"}
# Its operator new is not hidden, so it calls ours. But ours cannot find the rest of its runtime to throw: it says so.
CANNOT_THROW = "operators_only"
CANNOT_THROW_LINE = r"^hakmem: out of memory in operator new, and its caller shows no C\+\+ runtime to throw: 0x[0-9a-f]+ in \S+\[\d+\]$"


def named(programs):
    return {os.path.basename(path): os.path.abspath(path) for path in programs}


def host(programs, plugins):
    """The command that runs these plugins."""
    words = [word.rpartition(":") for word in plugins.split()]
    return [programs["c_host"]] + ["%s%s%s" % (scope, colon, programs["lib%s_plugin.so" % name]) for scope, colon, name in words]


def command_lines(programs):
    """Each command, and what it must print under LD_PRELOAD, or None."""
    for plugins in PLUGINS:
        names = [word.rpartition(":")[2] for word in plugins.split()]
        yield host(programs, plugins), "\n".join(
            "lib%s_plugin.so: %s operator new" % (name, "own" if name in OWN_OPERATORS else "shared") for name in names)
    for case in range(OWN_MALLOC_CASES):
        yield [programs["own_malloc"], str(case)], None
    for name in sorted(programs):
        if name.startswith("replaced_forms_"):
            yield [programs[name]], None


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
    programs = named(programs)
    failures = runs = 0
    for command, expected in command_lines(programs):
        name = " ".join([os.path.basename(command[0])] + [word.replace(os.path.dirname(command[0]) + "/", "") for word in command[1:]])
        for library in [""] + libraries:
            if not library and name in NOT_WITHOUT:
                continue
            status, output = run(command, library)
            runs += 1
            if status != 0 or (library and expected is not None and output != expected):
                failures += 1
                print("FAILED %s on %s: %s\n%s" % (name, os.path.basename(library) or "the C library", status, output))
    for library in [""] + libraries:
        status, output = run(host(programs, CANNOT_THROW), library)
        runs += 1
        if status != (SIGABRT if library else 0) or bool(library) != bool(re.search(CANNOT_THROW_LINE, output, re.MULTILINE)):
            failures += 1
            print("FAILED %s on %s: %s\n%s" % (CANNOT_THROW, os.path.basename(library) or "the C library", status, output))
    # If there is one more case, OWN_MALLOC_CASES is wrong.
    if run([programs["own_malloc"], str(OWN_MALLOC_CASES)], "")[0] != 2:
        failures += 1
        print("FAILED own_malloc has more cases than are run")
    print("%d runs, %d failed" % (runs, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
