#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes compile_commands.json at the root of the repository, for clangd:

    ./bazelw run //tools:compile_commands [-- [--output FILE] [BAZEL OPTION...]]

Bazel is asked how it would compile every C and C++ file (aquery); nothing is compiled. The commands are those of clang,
whose options clangd knows, in STANDARD; other options of Bazel choose other builds: -- --config=hardened.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

TARGETS = 'mnemonic("CppCompile", //...)'
SOURCE = re.compile(r"\.(c|cc)$")
# Options that name files which the compiler would write.
WRITES = {"-MD": 1, "-MF": 2, "-o": 2}


class QueryError(Exception):
    """Bazel failed."""


def absolute(argument, roots):
    """Makes a path in Bazel's own folders absolute, because these are not below the root of the repository."""
    for folder, place in roots.items():
        argument = re.sub(rf"^(-I|-L|)(?={re.escape(folder)}/)", lambda match: match[1] + place + "/", argument)
    return argument


def entry(arguments, root, roots):
    """The entry for one compilation, or None if its source is not a file of the repository."""
    kept, source, at = [], None, 0
    while at < len(arguments):
        argument = arguments[at]
        if argument in WRITES:
            at += WRITES[argument]
            continue
        if not argument.startswith("-frandom-seed="):
            kept.append(absolute(argument, roots))
        if argument == "-c" and at + 1 < len(arguments):
            source = arguments[at + 1]
        at += 1
    if source is None or not SOURCE.search(source) or not os.path.isfile(os.path.join(root, source)):
        return None
    return {"directory": root, "file": source, "arguments": kept}


def entries(query, root, roots):
    """One entry for each source file, from aquery's answer: of several builds of a file the one with the shortest
    output
    path, which is the one that no transition has changed."""
    best = {}
    for action in query.get("actions", []):
        arguments = action["arguments"]
        found = entry(arguments, root, roots)
        if found is None:
            continue
        output = arguments[arguments.index("-o") + 1] if "-o" in arguments else ""
        rank = (len(output), output)
        if found["file"] not in best or rank < best[found["file"]][0]:
            best[found["file"]] = (rank, found)
    return [found for _, (_, found) in sorted(best.items())]


def bazel(root, *arguments):
    run = subprocess.run([os.path.join(root, "bazelw"), *arguments], cwd=root, stdout=subprocess.PIPE, check=False)
    if run.returncode != 0:
        raise QueryError(f"bazelw {arguments[0]} ended with status {run.returncode}")
    return run.stdout.decode()


def main(arguments):
    root = os.environ.get("BUILD_WORKSPACE_DIRECTORY")
    if not root:
        print("compile_commands: to be run by ./bazelw run //tools:compile_commands", file=sys.stderr)
        return 2
    output = os.path.join(root, "compile_commands.json")
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    if arguments[:1] == ["--output"]:
        if len(arguments) < 2:
            print("compile_commands: --output needs a file", file=sys.stderr)
            return 2
        output = os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", root), arguments[1])
        arguments = arguments[2:]
    try:
        base = bazel(root, "info", "output_base").strip()
        execution = bazel(root, "info", "execution_root").strip()
        # Without the header that exists only after a build.
        query = json.loads(bazel(root, "aquery", "--config=clang", "--//configs:precompiled=false", "--noshow_progress",
                                 "--output=jsonproto", *arguments, TARGETS))
    except (QueryError, OSError, ValueError) as error:
        print(f"compile_commands: {error}", file=sys.stderr)
        return 1
    found = entries(query, root, {"external": base, "bazel-out": execution})
    if not found:
        print("compile_commands: Bazel names no file to compile", file=sys.stderr)
        return 1
    part = pathlib.Path(output + ".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(output)
    print(f"{len(found)} files in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
