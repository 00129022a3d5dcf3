#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the Markdown pages name existing things: every relative link leads to a file, and to a heading of it if
it names one; every file in backquotes on the pages FILES is in the repository. No file of docs/ is longer than 50 KB,
and docs/analysis/README.md names every page below it. Every variable HAKMEM_* on a page for users is a setting or a
variable of a tool, and every hak_* is in a public header; in the tables of docs/MIGRATING.md that holds for every
backquoted name with an underscore in the last column, which has what hakmem has."""

import pathlib
import re
import subprocess
import sys

# Pages on which backquoted names with a folder and an ending are files, relative to the root or to allocator/.
FILES = ("CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/GLOSSARY.md", "docs/MEMORY.md", "docs/WHERE.md")
LINK = re.compile(r"(?:\]\(|\b(?:src|srcset|href)=\")([^)\s\"]+)[)\"]")
NAME = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:c|h|cc|inc|py|bzl|bazel|md|txt|sh|json|dict|tsv|in))`")
# The page that lists the notes, and the maximum length of a file of docs/.
NOTES = "docs/analysis/README.md"
LONGEST = 50_000
# The pages for users, whose readers have the settings and the public headers only.
FOR_USERS = re.compile(r"(?:README|docs/(?:EMBEDDING|INSTALLING|MEMORY|MIGRATING|OBSERVABILITY)|examples/.*)\.md")
MIGRATING = "docs/MIGRATING.md"
# Files that a tool writes or that the reader creates.
NOT_THERE = re.compile(r"NAME|docs/analysis/testing/ci-long\.md")


def anchors(text):
    """The anchors of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in text.splitlines() if line.startswith("#")}


def problems(pages, tracked):
    """What is wrong: `pages` are the texts by their path from the root, `tracked` the paths of all files and
    folders."""
    found = []
    for path, text in sorted(pages.items()):
        for number, line in enumerate(text.splitlines(), 1):
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                to = path
                if name:
                    parts = []
                    for part in (pathlib.PurePosixPath(path).parent / name).parts:
                        parts = parts[:-1] if part == ".." else parts + [part]
                    to = "/".join(parts)
                if to not in tracked:
                    found.append(f"{path}:{number}: no {to}")
                elif anchor and to in pages and anchor not in anchors(pages[to]):
                    found.append(f"{path}:{number}: {to} has no heading #{anchor}")
            for name in NAME.findall(line) if path in FILES else []:
                if not {name, "allocator/" + name} & tracked and not NOT_THERE.search(name):
                    found.append(f"{path}:{number}: no file {name}")
        if path.startswith("docs/analysis/") and path != NOTES and f"]({path[len('docs/analysis/'):]})" not in pages.get(NOTES, ""):
            found.append(f"{NOTES} does not name {path}")
    return found


def unknown(pages, settings, tools, headers):
    """Names on the pages for users that hakmem does not have. `settings` are variables, `tools` the prefixes of others,
    `headers` all words of the public headers."""
    found = []
    for path, text in sorted(pages.items()):
        for number, line in enumerate(text.splitlines(), 1) if FOR_USERS.fullmatch(path) else []:
            for name in re.findall(r"\bHAKMEM_[A-Z0-9_]*[A-Z0-9]\b", line):
                if name not in settings and not name.startswith(tools):
                    found.append(f"{path}:{number}: {name} is no setting")
            names = set(re.findall(r"\bhak_\w+", line))
            if path == MIGRATING and line.startswith("| "):
                cell = line.strip("| ").split(" | ")[-1]
                names |= {name for name in re.findall(r"`([a-z]+_\w+)(?:\(.*?\))?`", cell)}
            found += [f"{path}:{number}: {name} is in no public header" for name in sorted(names - headers)]
    return found


def too_long(sizes):
    """`sizes` are those of all files by their path."""
    return [f"{path} has {size} bytes, more than {LONGEST}" for path, size in sorted(sizes.items())
            if path.startswith("docs/") and size > LONGEST]


def self_check():
    """The check must be able to fail, once for each of its rules."""
    page = "# One thing\n[a](b/c.md#two) [d](#one-thing) [e](https://f/g)\n`x/y.h`\n"
    pages = {"docs/WHERE.md": page, "docs/b/c.md": "## Two\n"}
    tracked = set(pages) | {"allocator/x/y.h"}
    assert not problems(pages, tracked), problems(pages, tracked)
    for old, new, what in [
        ("b/c.md#two", "b/d.md", "no docs/b/d.md"),
        ("b/c.md#two", 'b/c.md) <img src="b/e.svg"> (', "no docs/b/e.svg"),
        ("#two", "#three", "has no heading #three"),
        ("#one-thing", "#another", "has no heading #another"),
        ("`x/y.h`", "`x/z.h`", "no file x/z.h"),
    ]:
        changed = problems(dict(pages, **{"docs/WHERE.md": page.replace(old, new)}), tracked)
        assert len(changed) == 1 and what in changed[0], (what, changed)
    notes = {NOTES: "[a](x/a.md)\n", "docs/analysis/x/a.md": "", "docs/analysis/x/b.md": ""}
    assert problems(notes, set(notes)) == [f"{NOTES} does not name docs/analysis/x/b.md"]
    words = {"hak_malloc", "live_bytes"}
    page = "`HAKMEM_A=1` `HAKMEM_TOOL_B` HAKMEM_* `hak_malloc(1)`\n| `je_x` | `live_bytes` |\n"
    for old, new, what in [
        ("", "", None),
        ("HAKMEM_A", "HAKMEM_B", "HAKMEM_B is no setting"),
        ("hak_malloc", "hak_alloc", "hak_alloc is in no public header"),
        ("`live_bytes`", "`live_byte`, `live_bytes`", "live_byte is in no public header"),
        ("`live_bytes`", "`dead_bytes(1)`", "dead_bytes is in no public header"),
    ]:
        changed = unknown({MIGRATING: page.replace(old, new)}, {"HAKMEM_A"}, ("HAKMEM_TOOL_",), words)
        assert len(changed) == (what is not None) and (what or "") in "".join(changed), (what, changed)
    assert len(unknown({"examples/a/README.md": "`hak_x`", "docs/BOXES.md": "`hak_y`"}, set(), ("x",), words)) == 1
    assert len(too_long({"docs/a.md": LONGEST + 1, "docs/b.md": LONGEST, "fuzz/c": LONGEST + 1})) == 1


def main():
    self_check()
    root = pathlib.Path(__file__).resolve().parent.parent
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, stdout=subprocess.PIPE
    ).stdout
    names = [name for name in listing.decode().split("\0") if name and (root / name).is_file()]
    tracked = set(names) | {str(parent) for name in names for parent in pathlib.PurePosixPath(name).parents}
    pages = {name: (root / name).read_text(encoding="utf-8") for name in names if name.endswith(".md")}
    found = problems(pages, tracked) if pages else ["no page found to check"]
    headers = "\n".join((root / name).read_text() for name in names if name.startswith("allocator/include/"))
    room = root / "allocator"
    row = (room / "gate/gate_row.c").read_text()
    settings = set(re.findall(r'"(HAKMEM_[A-Z0-9_]+)"', (room / "policy/gate_table.inc").read_text() + row))
    tools = re.search(r"\btools\[\] = \{(.*?)\};", (room / "gate/gate.c").read_text(), re.S)
    prefixes = tuple(re.findall(r'"(HAKMEM_[A-Z0-9_]+_)"', tools.group(1))) if tools else ()
    if len(settings) < 2 or not prefixes or MIGRATING not in pages:
        found.append(f"no settings, no prefixes of tools, or no {MIGRATING} is found")
    found += unknown(pages, settings, prefixes, set(re.findall(r"\w+", headers)))
    found += too_long({name: (root / name).stat().st_size for name in names})
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
