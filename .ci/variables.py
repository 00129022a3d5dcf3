#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that hakmem does not report the environment variables of its own tools as unknown settings.

A program on hakmem gets a line for each variable that begins with HAKMEM_ and is no setting, except those that begin
with a prefix in `tools` of allocator/gate/gate.c. So every variable that a file of this repository reads is a setting
or has such a prefix.
"""

import pathlib
import re
import subprocess
import sys

# How programs, scripts and rules read a variable, and constants with the name of one.
READS = [
    r"\$\{?(HAKMEM_[A-Z0-9_]+)",
    r"getenv\(\"(HAKMEM_[A-Z0-9_]+)\"",
    r"\benviron(?:\.get|\.pop|\.setdefault)?[\[(][\"'](HAKMEM_[A-Z0-9_]+)[\"']",
    r"\[\]? = \"(HAKMEM_[A-Z0-9_]+)\"",
    r"--(?:repo|test|action)_env=(HAKMEM_[A-Z0-9_]+)",
]
SKIPPED = {".md", ".json", ".svg", ".png"}


def problems(sources, table, gate, row):
    """The variables that are read and would be reported. `sources`: path -> contents; the others: contents."""
    settings = set(re.findall(r'"(HAKMEM_[A-Z0-9_]+)"', table)) | set(re.findall(r'"(HAKMEM_[A-Z0-9_]+)" : NULL', row))
    tools = re.search(r"\btools\[\] = \{(.*?)\};", gate, re.S)
    prefixes = tuple(re.findall(r'"(HAKMEM_[A-Z0-9_]+_)"', tools.group(1))) if tools else ()
    if len(settings) < 2 or not prefixes:
        return ["no settings, or no prefixes of tools, are found"]
    found = []
    for path, content in sorted(sources.items()):
        for number, line in enumerate(content.splitlines(), 1):
            for name in {name for pattern in READS for name in re.findall(pattern, line)}:
                if name not in settings and not name.startswith(prefixes):
                    found.append(f"{path}:{number}: {name} is no setting, and begins with none of {', '.join(prefixes)}")
    return found


def self_check():
    """The check must be able to fail, for each way to read a variable."""
    table, row = 'HAK_GATE_CHOICE("HAKMEM_A") HAK_GATE_CHOICE("HAKMEM_B")', 'return id == 0 ? "HAKMEM_C" : NULL;'
    gate = 'static const char *const tools[] = {"HAKMEM_TOOL_"};'
    for read in [
        'x=${%s:-1}', 'echo "$%s"', 'getenv("%s")', 'os.environ["%s"]', "os.environ.get('%s')", 'environ.pop("%s", log)',
        'static const char kVariable[] = "%s";', "--repo_env=%s=/x"
    ]:
        for good in "HAKMEM_A", "HAKMEM_C", "HAKMEM_TOOL_X":
            assert problems({"a.sh": read % good}, table, gate, row) == [], (read, good)
        assert len(problems({"a.sh": read % "HAKMEM_TOOLS"}, table, gate, row)) == 1, read
    assert problems({}, "", gate, row) and problems({}, table, "", row)


def main():
    self_check()
    root = pathlib.Path(__file__).resolve().parent.parent
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True,
                             stdout=subprocess.PIPE).stdout.decode()
    sources = {}
    for name in listing.split("\0"):
        path = root / name
        # What is wrong on purpose is in this file.
        if name and path.is_file() and path.suffix not in SKIPPED and path != pathlib.Path(__file__).resolve():
            sources[name] = path.read_text(encoding="utf-8", errors="replace")
    room = root / "allocator" / "gate"
    found = problems(sources, (root / "allocator/policy/gate_table.inc").read_text(), (room / "gate.c").read_text(),
                     (room / "gate_row.c").read_text())
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
