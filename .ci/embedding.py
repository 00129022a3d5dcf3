#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that lines which the pages tell users to copy are in examples/, where they are built and tested.

README.md and docs/EMBEDDING.md: every label @hakmem//... that they name, and every line of their Starlark and .bazelrc
that holds one, is in a BUILD.bazel, WORKSPACE, MODULE.bazel or .bazelrc below examples/. Lines that differ for each
user (names, sources, paths) are left out. The page of the examples names only existing targets."""

import pathlib
import re
import sys

PAGES = ("README.md", "docs/EMBEDDING.md")
FILES = ("BUILD.bazel", "WORKSPACE", "MODULE.bazel", ".bazelrc")
LABEL = re.compile(r"@hakmem//[\w/]+:[\w.]+")
OWN = re.compile(r"\s*(name = \"server\w*\"|srcs? = |path = |deps = )")
LOAD = re.compile(r'load\(("[^"]+"), (.+)\)$')


def lines_to_copy(page):
    """(number, line) of each line of a Starlark block, and of each indented line that sets an option of a build."""
    inside = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```starlark"
        elif inside or re.match(r"    build(:\w+)? --", line):
            yield number, line.strip()


def problems(pages, examples, table):
    """What is wrong with `pages` ({name: text}) and `table`, the page of the examples, given the files of the
    examples."""
    text = "\n".join(examples.values())
    known = {line.strip() for line in text.splitlines()}
    # Users choose the name of a configuration, and the suffix for the output is optional.
    known |= {re.sub(r"^build:\w+ ", "build ", part) for line in known for part in (line, line.split(" --platform_suffix")[0])}
    # A page loads one name where an example loads several.
    known |= {"load(%s, %s)" % (load.group(1), name)
              for load in map(LOAD.match, known) if load for name in load.group(2).split(", ")}
    found = []
    copied = 0
    for name, page in pages.items():
        for label in sorted(set(LABEL.findall(page))):
            if not re.search(re.escape(label) + r"(?![\w.])", text):
                found.append("%s: no example uses %s" % (name, label))
        for number, line in lines_to_copy(page):
            copied += 1
            if not OWN.match(line) and re.sub(r"^build:\w+ ", "build ", line) not in known | {""}:
                found.append("%s:%d: not in any example: %s" % (name, number, line))
    for target in sorted(set(re.findall(r"`:(\w+)`", table))):
        if 'name = "%s"' % target not in text:
            found.append("examples/README.md: no target :%s" % target)
    if not copied:
        found.append("no line found that is to be copied")
    return found


def self_check():
    """The check must be able to fail, once for each of its rules."""
    example = {"BUILD.bazel": 'load("@r//c:d.bzl", "e", "f")\n\ncc_binary(\n    name = "words",\n    malloc = "@hakmem//a:b",\n)\n'}
    page = '```starlark\nload("@r//c:d.bzl", "e")\ncc_binary(\n    name = "server",\n    malloc = "@hakmem//a:b",\n)\n```\n'
    assert not problems({"page": page}, example, "`:words`"), problems({"page": page}, example, "`:words`")
    assert problems({"page": "nothing"}, example, "") == ["no line found that is to be copied"]
    for changed, table in [
        (page.replace("cc_binary", "cc_test"), ""),
        (page.replace('"e"', '"g"'), ""),
        (page.replace("a:b", "a:c"), ""),
        (page + "and `@hakmem//a:bc`", ""),
        (page + "    build:x --@hakmem//a:b=c\n", ""),
        (page, "`:sentences`"),
    ]:
        assert problems({"page": changed}, example, table), (changed, table)


def main():
    self_check()
    root = pathlib.Path(__file__).resolve().parent.parent
    pages = {name: (root / name).read_text(encoding="utf-8") for name in PAGES}
    examples = {
        str(path): path.read_text(encoding="utf-8")
        for path in sorted((root / "examples").glob("*/*"))
        if path.name in FILES
    }
    table = (root / "examples" / "README.md").read_text(encoding="utf-8")
    found = problems(pages, examples, table)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
