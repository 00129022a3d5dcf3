#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what libhakmem.so exports, needs and keeps in thread variables.

usage: exports_test.py EXPORTS_TXT BAD_LIBRARY LIBRARY...

Every LIBRARY must export exactly the names in EXPORTS_TXT, need only the C library, and keep its thread variables small
and in static TLS, so that dlopen can load it and it reaches them without a call. BAD_LIBRARY breaks each of these
rules: the test fails if a check does not report it.
"""

import re
import subprocess
import sys

STATIC_TLS_LIMIT = 80  # bytes; glibc has about 1,600 for all libraries that dlopen loads
ALLOWED_NEEDED = re.compile(r"libc\.so\.6|ld-linux-[a-z0-9_-]+\.so\.[12]")


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout


def expected_names(path):
    with open(path, encoding="utf-8") as lines:
        return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def check_exports(library, expected):
    names = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines() if line.strip()}
    problems = ["exports " + name for name in sorted(names - expected)]
    return problems + ["does not export " + name for name in sorted(expected - names)]


def check_needed(library):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", library))
    return ["needs " + name for name in needed if not ALLOWED_NEEDED.fullmatch(name)]


def check_tls_model(library):
    problems = []
    if re.search(r"\b__tls_get_addr\b", run("nm", "-D", "--undefined-only", library)):
        problems.append("calls __tls_get_addr")
    dynamic = re.findall(r"R_\S*(?:TLSDESC|DTPMOD)\S*", run("readelf", "-rW", library))
    return problems + ["has the dynamic TLS relocation " + name for name in sorted(set(dynamic))]


def check_tls_size(library):
    sizes = [int(line.split()[5], 16) for line in run("readelf", "-lW", library).splitlines() if line.split()[:1] == ["TLS"]]
    return ["has %d bytes of TLS, over %d" % (size, STATIC_TLS_LIMIT) for size in sizes if size > STATIC_TLS_LIMIT]


def main():
    exports_txt, bad_library, *libraries = sys.argv[1:]
    expected = expected_names(exports_txt)
    checks = {
        "exports": lambda library: check_exports(library, expected),
        "needed": check_needed,
        "tls_model": check_tls_model,
        "tls_size": check_tls_size,
    }
    failures = 0
    if not libraries:
        sys.exit("no library given")
    for name, check in checks.items():
        if not check(bad_library):
            failures += 1
            print("FAILED: the check '%s' does not report %s" % (name, bad_library))
        for library in libraries:
            for problem in check(library):
                failures += 1
                print("FAILED: %s %s" % (library, problem))
    if failures:
        sys.exit(1)
    print("%d libraries, %d exported names, %d checks: passed" % (len(libraries), len(expected), len(checks)))


if __name__ == "__main__":
    main()
