#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the code that a Spin model describes has not changed without somebody looking at the model.

A function of the allocator that names a step of a model (`Step T2 of remote.pml`) is modelled. fuzz/spin/modelled.txt
has a digest of each such function, without its comments, and of each model. A function that changed, is new or is gone
is an error until its line is renewed, by hand or by --write, which is a statement: the model still describes it.

usage: models.py [--write]"""

import hashlib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "fuzz/spin/modelled.txt"
STEPS = re.compile(r"\bSteps? (?:[A-Z]\d+(?:, | and )?)+ of (\w+\.pml)")
HEAD = """# SPDX-License-Identifier: Apache-2.0
#
# What the models of this folder describe, as somebody last compared it with them (.ci/models.py): a model, a file, a
# function and its digest; and the digest of each model.
"""


def functions(text):
    """(name, text) of each function at the outermost level, as this project's formatter writes it."""
    found = []
    lines = text.split("\n")
    start = 0
    for at, line in enumerate(lines):
        if not line.strip() or line.startswith(("#", "//", "}")):
            start = at + 1
        if line == "}":
            first = at
            while first > 0 and lines[first - 1].strip() != "}" and not (
                lines[first].rstrip().endswith("{") and not lines[first].startswith(" ")
            ):
                first -= 1
            begin = first
            while begin > 0 and lines[begin - 1].strip() and not lines[begin - 1].startswith(("#", "//", "}")):
                begin -= 1
            body = "\n".join(lines[begin : at + 1])
            name = re.search(r"(\w+)\((?!\()", re.sub(r"\bHAK_[A-Z_]+\([^()]*\)", "", body.split("{")[0]))
            if name is not None:
                found.append((name.group(1), body))
    return found


def digest(text):
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    return hashlib.sha256(" ".join(plain.split()).encode()).hexdigest()[:16]


def modelled():
    """The lines of the list, as the tree is now."""
    lines = set()
    for path in sorted((ROOT / "allocator").rglob("*.[ch]")):
        name = path.relative_to(ROOT).as_posix()
        for function, text in functions(path.read_text(encoding="utf-8")):
            comments = " ".join(re.findall(r"//([^\n]*)", text))
            for model in set(STEPS.findall(" ".join(comments.split()))):
                lines.add("%s %s %s %s" % (model, name, function, digest(text)))
    for path in sorted((ROOT / "fuzz/spin").glob("*.pml")):
        lines.add("%s %s - %s" % (path.name, path.relative_to(ROOT).as_posix(), digest(path.read_text(encoding="utf-8"))))
    return lines


def main():
    now = modelled()
    if sys.argv[1:] == ["--write"]:
        LIST.write_text(HEAD + "".join(line + "\n" for line in sorted(now)), encoding="utf-8")
        return 0
    if sys.argv[1:]:
        print(__doc__.rsplit("\n", 1)[-1], file=sys.stderr)
        return 2
    before = {line for line in LIST.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")}
    key = lambda line: line.rsplit(" ", 1)[0]
    for line in sorted({key(line) for line in now ^ before}):
        model, path, function = line.split(" ")
        what = path if function == "-" else "%s in %s" % (function, path)
        print("%s: %s is not as it was compared with the model: compare them, then .ci/models.py --write" % (model, what))
    return 1 if now != before else 0


if __name__ == "__main__":
    sys.exit(main())
