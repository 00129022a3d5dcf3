#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every source file has the SPDX line among its first lines."""

import pathlib
import subprocess
import sys

LINE = "SPDX-License-Identifier: Apache-2.0"

# A file is a source file by its ending, by its name, or by starting with `#!`.
ENDINGS = {".c", ".cc", ".h", ".S", ".py", ".sh", ".bzl", ".bazel", ".BUILD", ".lds", ".map", ".yml", ".yaml"}
NAMES = {"WORKSPACE", ".bazelrc", ".clang-format", ".clang-tidy", ".gitignore", ".gitattributes"}


def is_source(path):
    if path.suffix in ENDINGS or path.name in NAMES:
        return True
    with path.open("rb") as stream:
        return stream.read(2) == b"#!"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, stdout=subprocess.PIPE
    ).stdout
    names = sorted(name for name in listing.decode().split("\0") if name)
    sources = [name for name in names if (root / name).is_file() and is_source(root / name)]
    missing = []
    for name in sources:
        with (root / name).open(encoding="utf-8", errors="replace") as stream:
            if not any(LINE in line for line, _ in zip(stream, range(5))):
                missing.append(f"{name}: no `{LINE}` in its first five lines")
    if not sources:
        missing.append("no source file found")
    print("\n".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
