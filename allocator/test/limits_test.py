#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs hakmem with a limited address space, under valgrind, and loaded by dlopen.

usage: limits_test.py --host DLOPEN_HOST --plugin PLUGIN --hog TLS_HOG --plain LIMITS_CHILD
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
TIMEOUT = 150  # valgrind takes many times as long, and so does a busy machine

failures = []


def run(command, env=None, address_space=None, data=None):
    """Runs a command, its address space or its writable memory limited; returns its exit code, stdout and stderr."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        if data:
            resource.setrlimit(resource.RLIMIT_DATA, (data, data))

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


def check_controls(plain, host, plugin):
    """Checks that the child fails where it must: without a limit, and on the C library's malloc."""
    for arguments in (["exhaust", "1000"], ["workload"]):
        if run([plain] + arguments)[0] != 1:
            failures.append("control")
            print("FAILED: %s on the C library's malloc should have failed" % arguments)
    # This library leaks some memory each time it is loaded: the child must report the growth.
    code, out, _ = run([host, "leak", plugin])
    if code != 1 or "grew" not in out:
        failures.append("control")
        print("FAILED: growth by dlopen was not reported: exit code %s\n%s" % (code, out))


def check_address_space(name, command, env):
    for mib, size in ((64, 64), (64, 0), (64, 40000), (256, 0), (256, 1000), (256, 300000), (1024, 3000000)):
        what = "%s: %d MiB, blocks of %s" % (name, mib, "%d bytes" % size if size else "mixed sizes")
        expect(what, run(command + ["exhaust", str(size)], env, mib * MIB), is_good)
    expect("%s: 256 MiB, eight threads" % name, run(command + ["threads"], env, 256 * MIB), is_good)


def sweep(name, command, env, kind):
    """Tries limits from almost nothing up to what a small program needs: it works, is refused memory, or cannot start."""
    env = dict(env or {}, HAK_TEST_SAY_STARTED="1")
    seen = {"not started": 0, "refused": 0, "good": 0}
    for step in range(1, 400):
        limit = step * MIB // 4
        code, out, err = run(command + ["few"], env, **{kind: limit})
        last = out.splitlines()[-1] if out and "cannot be preloaded" not in err else "not started"
        if last == "not started" and code in (1, 127, -9, -11) and "hakmem: " not in err:
            # It failed in the kernel or in the dynamic linker, before any constructor ran.
            seen[last] += 1
        elif last in ("refused", "good") and code == 0 and err == "":
            seen[last] += 1
        else:
            failures.append(name)
            print("FAILED: %s: %d KiB: exit code %s\n%s%s" % (name, limit // 1024, code, out, err))
            return
        if seen["good"] == 3:
            break
    print("ok: %s: %s" % (name, ", ".join("%s %d" % pair for pair in seen.items())))
    if seen["good"] < 3 or seen["refused"] == 0:
        failures.append(name)
        print("FAILED: %s: the limits tried do not cover all three results: %s" % (name, seen))


def check_valgrind(name, command, wanted):
    valgrind = shutil.which("valgrind")
    if not valgrind:
        failures.append("valgrind")
        print("FAILED: valgrind is not installed; ./bazelw installs it")
        return
    # No pipes for a debugger: their names in /tmp contain the process id, and another sandbox can have the same.
    result = run([valgrind, "--quiet", "--vgdb=no", "--tool=none"] + command + ["workload"])
    expect(name + ": under valgrind --tool=none", result, lambda out: out == wanted)


def copies_of(library, prefix, count, scratch):
    """Copies the library `count` times. The loader identifies a library by its file: each copy is another library."""
    copies = [os.path.join(scratch, "%s%d.so" % (prefix, i)) for i in range(count)]
    for copy in copies:
        if not os.path.exists(copy):
            shutil.copyfile(library, copy)
    return copies


def check_static_tls(name, host, library, hog, scratch):
    """Fills the static TLS of libraries that dlopen loads: ours still loads, or the loader's error names static TLS."""
    hogs = copies_of(hog, "hog", 200, scratch)
    code, out, err = run([host, "exhaust", library] + hogs)
    lines = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    if code != 0 or err or "hogs" not in lines or "hakmem" not in lines or int(lines.get("hogs", 0)) >= len(hogs):
        failures.append(name)
        print("FAILED: %s: static TLS used up: exit code %s\n%s%s" % (name, code, out, err))
        return
    count = int(lines["hogs"])
    if lines["hakmem"] != "good" and "static TLS" not in lines["hakmem"]:
        failures.append(name)
        print("FAILED: %s: static TLS used up: %s" % (name, lines["hakmem"]))
    # Each hog has 64 bytes: where four more fit, hakmem fits.
    expect(name + ": dlopen with 256 bytes of static TLS left", run([host, "load", library] + hogs[: count - 4]), is_good)
    print("ok: %s: static TLS used up by %d libraries: %s" % (name, count, lines["hakmem"]))


def check_dlopen(name, host, library, plugin, scratch):
    expect(name + ": dlopen", run([host, "load", library]), is_good)
    copies = copies_of(plugin, "tls", 24, scratch)
    expect(name + ": dlopen after 24 libraries with TLS", run([host, "load", library] + copies), is_good)
    expect(name + ": dlopen under 512 MiB", run([host, "load", library], address_space=512 * MIB), is_good)
    preload = {"LD_PRELOAD": library}
    expect(name + ": preloaded, dlopen of a library that allocates", run([host, "plugin", plugin], preload), is_good)
    expect(name + ": preloaded, 1000 rounds of dlopen", run([host, "rounds", plugin], preload), is_good)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--hog", required=True)
    parser.add_argument("--plain", required=True)
    parser.add_argument("--profile", nargs=3, action="append", required=True)
    arguments = parser.parse_args()
    plain = os.path.abspath(arguments.plain)
    host = os.path.abspath(arguments.host)
    plugin = os.path.abspath(arguments.plugin)
    hog = os.path.abspath(arguments.hog)
    check_controls(plain, host, plugin)
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
            check_static_tls(name, host, library, hog, scratch)
            for kind in ("address_space", "data"):
                sweep("%s: every limit on %s" % (name, kind), [child], None, kind)
                sweep("%s: preloaded, every limit on %s" % (name, kind), [plain], preload, kind)
    if failures:
        sys.exit("%d failed" % len(failures))


if __name__ == "__main__":
    main()
