#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks //tools:compile_commands on this tree: check_compile_commands.py

The file that it writes must name every C file of the allocator, and clang must accept every tenth source with its
command. Exit status 0 if so, 1 otherwise."""

import json
import pathlib
import subprocess
import sys
import tempfile

EVERY = 10


def problems(root, file):
    run = subprocess.run(["./bazelw", "run", "--config=ci", "//tools:compile_commands", "--", "--output", str(file)],
                         cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if run.returncode != 0:
        yield f"exit status {run.returncode}: {run.stdout.decode()[-2000:]}"
        return
    entries = json.loads(file.read_text(encoding="utf-8"))
    named = [entry["file"] for entry in entries]
    sources = {str(path.relative_to(root)) for path in root.glob("allocator/*/*.c") if path.parts[-2] != "test"}
    for missing in sorted(sources - set(named)):
        yield f"{missing} is not in the file"
    for entry in entries[::EVERY]:
        run = subprocess.run([*entry["arguments"], "-fsyntax-only"], cwd=entry["directory"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=False)
        if run.returncode != 0:
            yield f"{entry['file']} cannot be compiled: {run.stdout.decode()[-1000:]}"
    if len(named) != len(set(named)):
        yield "a file has two entries"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        found = list(problems(root, pathlib.Path(folder) / "compile_commands.json"))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
