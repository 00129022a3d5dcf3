#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that no include climbs: a room of the allocator uses the rooms below it, or beside it on its own floor. And
that one file alone advises the kernel on memory, so that every call of madvise goes through its guard.

The table is the layer picture of docs/ARCHITECTURE.md. Tests may include and call anything: nothing includes them.
"""

import pathlib
import re
import sys

ALLOWED = {
    "api": {"gate", "hot", "tiny", "large", "policy", "check", "observe", "os"},
    "gate": {"policy", "os"},
    "hot": {"tiny", "check", "os"},
    "tiny": {"large", "policy", "check", "observe", "os"},
    "large": {"tiny", "policy", "check", "observe", "os"},
    "policy": {"tiny", "large", "check", "observe", "os"},
    "check": {"tiny", "large", "policy", "observe", "os"},
    "observe": {"tiny", "large", "policy", "check", "os"},
    "os": set(),
}

# Folders beside the rooms that hold no part of the allocator.
OUTSIDE = {"test", "include"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


# The one file that may call madvise, by whatever name: madvise, posix_madvise, process_madvise, SYS_madvise.
ADVISER = "allocator/os/decommit.c"
ADVICE = re.compile(r"\w*madvise\b")


def advises(line):
    """Whether the line names madvise other than in a comment."""
    return ADVICE.search(line.split("//")[0]) is not None


def problem(room, delimiter, path):
    """What is wrong with a file of `room` including `path`, or None."""
    if delimiter == "<":
        return None
    parts = path.split("/")
    if parts[0] != "allocator" or len(parts) < 3:
        return f'"{path}" is not written from the root of the repository'
    if parts[1] not in ALLOWED:
        return f'"{path}" is in no room of the table'
    if parts[1] != room and parts[1] not in ALLOWED[room]:
        return f'"{path}" is not below {room}/'
    return None


def main():
    # The check must be able to fail.
    assert problem("os", '"', "allocator/hot/size_class.h") and not problem("hot", '"', "allocator/os/base.h")
    assert advises("  if (madvise(p, n, MADV_FREE) == 0) return;  // madvise") and advises("syscall(SYS_madvise, p, n, 4);")
    assert not advises("// The only call of madvise.") and not advises("hak_os_advise_huge(p, n, true);")

    root = pathlib.Path(__file__).resolve().parent.parent / "allocator"
    checked = 0
    advice = 0
    found = []
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".c", ".cc", ".h", ".S") or path.stem.endswith("_test"):
            continue
        where = path.relative_to(root).parts
        if len(where) < 2 or where[0] in OUTSIDE:
            continue
        name = "/".join(("allocator",) + where)
        if where[0] not in ALLOWED:
            found.append(f"{name}: {where[0]}/ is in no room of the table in {sys.argv[0]}")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if advises(line):
                advice += 1
                if name != ADVISER:
                    found.append(f"{name}:{number}: madvise belongs in {ADVISER}, behind its guard")
            match = INCLUDE.match(line)
            if match:
                checked += 1
                what = problem(where[0], *match.groups())
                if what:
                    found.append(f"{name}:{number}: {what}")
    if not checked:
        found.append("no include found to check")
    if not advice:
        found.append(f"no madvise found, not even in {ADVISER}")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
