#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the allocator leaves to other libraries, against the list of what it may.

usage: undefined_test.py UNDEFINED_TXT LIBRARY...

A LIBRARY that ends in .a is taken as one: what another member defines is not asked of anybody.
"""

import re
import subprocess
import sys


def nm(*arguments):
    return subprocess.run(("nm", *arguments), check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout


def names(text):
    """The last word of each line of nm's that names a symbol, without its version."""
    return {words[-1].split("@")[0] for words in map(str.split, text.splitlines()) if len(words) > 1}


def undefined(library):
    if not library.endswith(".a"):
        return names(nm("-D", "--undefined-only", library))
    return names(nm("--undefined-only", library)) - names(nm("--defined-only", library))


def is_instrumented(library):
    """A build for coverage brings a runtime of its own, which writes files."""
    return re.search(r"\b__(gcov|llvm_profile)_", nm(library)) is not None


def load(path):
    """The patterns. Each has a reason."""
    patterns = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                pattern, reason = line.split(None, 1)
                assert reason.strip()
                patterns.append(re.compile(pattern))
    return patterns


def unexpected(found, patterns):
    return sorted(name for name in found if not any(pattern.fullmatch(name) for pattern in patterns))


def main():
    path, *libraries = sys.argv[1:]
    patterns = load(path)
    # The check must be able to fail.
    assert unexpected({"open", "memcpy", "mmap64", "pthread_mutex_trylock"}, patterns) == ["mmap64", "open", "pthread_mutex_trylock"]
    failures = 0
    if not libraries:
        sys.exit("no library given")
    for library in libraries:
        if is_instrumented(library):
            print(f"{library} is built for coverage: not looked at")
            continue
        found = undefined(library)
        # If nm prints nothing, the comparison would always succeed.
        if "memcpy" not in found or "pthread_setspecific" not in found:
            failures += 1
            print(f"FAILED: {library}: nm does not show what it needs: {sorted(found)}")
        for name in unexpected(found, patterns):
            failures += 1
            print(f"FAILED: {library} needs {name}, which {path} does not list")
    if failures:
        sys.exit(1)
    print(f"{len(libraries)} libraries: as expected")


if __name__ == "__main__":
    main()
