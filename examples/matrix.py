#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The matrix of the examples: Bazel version x module or WORKSPACE x compiler x sanitizer x example.

usage: matrix.py --write     writes the page docs/BAZEL.md from this file
       matrix.py --check     compares the page with this file, and this file with what runs the cells

Every cell is run, by a line of .ci/run (Bazel 4) or of toolchains/check_bazel7.sh, or has a reason below. A combination
with neither stops this script, and so does a line of .ci/run that is no cell."""

import itertools
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "BAZEL.md"

BAZELS = ("4", "7", "8", "9")
WAYS = ("WORKSPACE", "module")
EXAMPLES = ("embedding", "service")
COMPILERS = ("gcc", "clang")
SANITIZERS = ("none", "asan", "ubsan", "tsan", "msan")

# What is not run, and why: patterns of BAZEL WAY EXAMPLE COMPILER SANITIZER, in which * is any and commas separate several.
# The first that fits counts.
REASONS = [
    ("4 module * * *", "Bazel 4 has no modules"),
    ("8,9 WORKSPACE * * *", "A WORKSPACE is for Bazel 4 to 7: Bazel 8 needs a flag for it, Bazel 9 has none"),
    ("8,9 module * * *", "Debian has neither; `.bcr/presubmit.yml` has the Bazel Central Registry run both before it takes a version, "
     "and `.ci/loads.py --modules` lets Bazel 7 read the tree without the built-in rules that they lack"),
    ("* * * gcc msan", "MemorySanitizer is clang's alone"),
    ("* * service * msan", "What Debian's C++ library and cpp-httplib write counts as uninitialised"),
    ("7 * * * asan,ubsan,tsan,msan", "The sanitizer is an option of the compiler, which Bazel only passes on: run with Bazel 4"),
    ("* * * * ubsan", "UndefinedBehaviorSanitizer brings no malloc, so a program keeps hakmem's: the tree's own tests run under it"),
    ("* * * clang none,asan,tsan", "The compiler of the examples is gcc; the tree's own tests run under clang, with each of these sanitizers"),
]

# What `bazel test` gets in a cell of Bazel 4, as .ci/run has it; the rest of the line of MemorySanitizer are programs in C.
LINES = {
    ("embedding", "none"): "//...",
    ("embedding", "asan"): "--config=asan //... //:sanitizer_test",
    ("embedding", "tsan"): "--config=tsan //... //:sanitizer_test",
    ("embedding", "msan"): "--config=msan //:prefixed_test //:mallocx_test //:sanitizer_test",
    ("service", "none"): "//...",
    ("service", "asan"): "--config=asan //...",
    ("service", "tsan"): "--config=tsan //...",
}
# Also run, beside the matrix: the malloc of every program by an option.
BESIDE = {"embedding --config=hakmem //... //:custom_malloc_test //:custom_malloc_in_use_test"}
# How check_bazel7.sh runs all examples in both ways.
BAZEL7 = (
    "for example in service embedding; do",
    'for way in bzlmod7 workspace7; do ../../bazelw test --config=ci "--config=$way" //... || exit 1; done',
)


def fits(pattern, cell):
    return all(part == "*" or value in part.split(",") for part, value in zip(pattern.split(), cell))


def reason(cell):
    """The number of the reason why the cell is not run, from 1; 0: it is run."""
    return next((number for number, (pattern, _) in enumerate(REASONS, 1) if fits(pattern, cell)), 0)


def cells():
    return itertools.product(BAZELS, WAYS, EXAMPLES, COMPILERS, SANITIZERS)


def problems(run, bazel7):
    """What is wrong, given the texts of both scripts."""
    found = []
    lines = set(re.findall(r"^ *example (.+)$", run, re.M))
    wanted = set(BESIDE)
    for cell in cells():
        if reason(cell):
            continue
        bazel, _, example, _, sanitizer = cell
        if bazel == "4" and (example, sanitizer) in LINES:
            wanted.add("%s %s" % (example, LINES[example, sanitizer]))
        elif bazel != "7" or sanitizer != "none" or not all(part in bazel7 for part in BAZEL7):
            found.append("%s: nothing runs it, and it has no reason" % " ".join(cell))
    found += [".ci/run does not have: example " + line for line in sorted(wanted - lines)]
    found += ["no cell is: example " + line for line in sorted(lines - wanted)]
    used = {reason(cell) for cell in cells()}
    found += ["a reason of no cell: " + pattern for number, (pattern, _) in enumerate(REASONS, 1) if number not in used]
    return found


def page():
    columns = list(itertools.product(COMPILERS, SANITIZERS))
    head = ["Bazel", "by", "example"] + [compiler + ("" if sanitizer == "none" else " " + sanitizer) for compiler, sanitizer in columns]
    rows = [head, ["---"] * len(head)]
    for row in itertools.product(BAZELS, WAYS, EXAMPLES):
        numbers = [reason(row + column) for column in columns]
        rows.append(list(row) + [str(number) if number else "**runs**" for number in numbers])
    count = sum(not reason(cell) for cell in cells())
    text = PAGE_HEAD % (count, len(list(cells())))
    text += "\n".join("| %s |" % " | ".join(row) for row in rows) + "\n\n"
    return text + "\n".join("%d. %s." % (number, why) for number, (_, why) in enumerate(REASONS, 1)) + "\n" + PAGE_END


PAGE_HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# Bazel versions, compilers, sanitizers: what is tested

`examples/matrix.py --write` writes this page; a check compares it with the scripts that run the cells. It covers the two examples
that are Bazel workspaces, `embedding` and `service`, each as another workspace would embed hakmem. %d of %d cells are run: those of
Bazel 4 (Debian 12: 4.2.3) by `bash .ci/run examples`, for every change, those of Bazel 7 (Debian sid: 7.7.1) by
`toolchains/check_bazel7.sh`, by hand; where it cannot make a root of sid it says so and exits with 2. A number is the
reason why a cell is not run.

"""

PAGE_END = """
Bazel 5 and 6 are in no Debian. They read the same WORKSPACE as Bazel 4 and 7.

The other examples are not Bazel's: `rust` (cargo), `go_cgo` (go) and `python` run in `bash .ci/run examples`, on an
installed hakmem in STANDARD and HARDENED. The tree's own tests under each compiler and sanitizer are on [CONFIGS.md](CONFIGS.md).
"""


def self_check(run, bazel7):
    """The check must be able to fail, once for each of its rules."""
    assert any("does not have" in line for line in problems(run.replace("example service //...", ""), bazel7))
    assert any("no cell" in line for line in problems(run + "\n      example service --config=new //...\n", bazel7))
    assert any("nothing runs it" in line for line in problems(run, bazel7.replace("workspace7", "")))
    REASONS.append(("4 WORKSPACE nothing * *", ""))
    assert any("a reason of no cell" in line for line in problems(run, bazel7))
    REASONS.pop()


def main():
    if sys.argv[1:] not in (["--write"], ["--check"]):
        sys.exit(__doc__)
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    bazel7 = (ROOT / "toolchains" / "check_bazel7.sh").read_text(encoding="utf-8")
    self_check(run, bazel7)
    found = problems(run, bazel7)
    if sys.argv[1] == "--write":
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        found.append("docs/BAZEL.md is not what examples/matrix.py --write writes")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
