#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hakmem where it is tight: a limited address space, valgrind, dlopen.

usage: limits_test.py --host DLOPEN_HOST --plugin PLUGIN --plain LIMITS_CHILD
                      --profile NAME LIMITS_CHILD_ON_THE_OVERRIDE LIBHAKMEM (once for each profile)
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile

MIB = 1 << 20
TIMEOUT = 60

failures = []


def run(command, env=None, address_space=None):
    """The exit code, stdout and stderr of a command, under a limit on its address space in bytes."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    full = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    full.update(env or {})
    try:
        done = subprocess.run(
            command, env=full, preexec_fn=limit, timeout=TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True)
    except subprocess.TimeoutExpired:
        return None, "", "no end after %d s" % TIMEOUT
    return done.returncode, done.stdout, done.stderr


def expect(what, result, good):
    code, out, err = result
    if code == 0 and err == "" and good(out):
        print("ok: " + what)
        return
    failures.append(what)
    print("FAILED: %s: exit code %s\n%s%s" % (what, code, out, err))


def is_good(out):
    return out.startswith("good")


def check_controls(plain):
    """The child fails where it must: without a limit, and on another malloc than ours."""
    for arguments in (["exhaust", "1000"], ["workload"]):
        if run([plain] + arguments)[0] != 1:
            failures.append("control")
            print("FAILED: %s on the C library's malloc should have failed" % arguments)


def check_address_space(name, command, env):
    for mib, size in ((64, 64), (64, 0), (64, 40000), (256, 0), (256, 1000), (256, 300000), (1024, 3000000)):
        what = "%s: %d MiB, blocks of %s" % (name, mib, "%d bytes" % size if size else "mixed sizes")
        expect(what, run(command + ["exhaust", str(size)], env, mib * MIB), is_good)
    expect("%s: 256 MiB, eight threads" % name, run(command + ["threads"], env, 256 * MIB), is_good)


def check_valgrind(name, command, wanted):
    valgrind = shutil.which("valgrind")
    if not valgrind:
        failures.append("valgrind")
        print("FAILED: valgrind is not installed; ./bazelw installs it")
        return
    result = run([valgrind, "--quiet", "--tool=none"] + command + ["workload"])
    expect(name + ": under valgrind --tool=none", result, lambda out: out == wanted)


def check_dlopen(name, host, library, plugin, scratch):
    expect(name + ": dlopen", run([host, "load", library]), is_good)
    # The loader knows a library by its file, so many copies of one are many libraries.
    copies = []
    for i in range(24):
        copies.append(os.path.join(scratch, "tls%d.so" % i))
        if not os.path.exists(copies[-1]):
            shutil.copyfile(plugin, copies[-1])
    expect(name + ": dlopen after 24 libraries with TLS", run([host, "load", library] + copies), is_good)
    expect(name + ": dlopen under 512 MiB", run([host, "load", library], address_space=512 * MIB), is_good)
    preload = {"LD_PRELOAD": library}
    expect(name + ": preloaded, dlopen of a library that allocates", run([host, "plugin", plugin], preload), is_good)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--plain", required=True)
    parser.add_argument("--profile", nargs=3, action="append", required=True)
    arguments = parser.parse_args()
    plain = os.path.abspath(arguments.plain)
    host = os.path.abspath(arguments.host)
    plugin = os.path.abspath(arguments.plugin)
    check_controls(plain)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as scratch:
        for name, child, library in arguments.profile:
            child, library = os.path.abspath(child), os.path.abspath(library)
            preload = {"LD_PRELOAD": library}
            is_profile = lambda out, name=name: (" %s " % name) in out
            expect(name + ": linked in", run([child, "version"]), is_profile)
            expect(name + ": preloaded", run([plain, "version"], preload), is_profile)
            check_address_space(name, [child], None)
            for mib in (64, 256):
                what = "%s: preloaded, %d MiB, mixed sizes" % (name, mib)
                expect(what, run([plain, "exhaust", "0"], preload, mib * MIB), is_good)
            code, workload, _ = run([child, "workload"])
            expect(name + ": workload", (code, workload, ""), lambda out: out.startswith("sum "))
            check_valgrind(name, [child], workload)
            check_dlopen(name, host, library, plugin, scratch)
    if failures:
        sys.exit("%d failed" % len(failures))


if __name__ == "__main__":
    main()
