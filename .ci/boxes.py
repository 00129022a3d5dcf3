#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks docs/BOXES.md against the sources: what its tables name exists, and what exists is named.

A box is a header with its sources: files of one name in a room of the allocator. Cells name things in backquotes, or
say `–` for nothing:
  box         one name or several parts of one: `room/name` stands for every file allocator/room/name.*
  API         functions and macros; each stands in a file of the box
  settings    environment variables of gate_table.inc; together all of them
  statistics  fields of hak_stats, together all of them, or functions that return a box's totals
  tests       files below allocator/; every test beside a box belongs to one
"""

import pathlib
import re
import subprocess
import sys

COLUMNS = ["box", "job", "API", "settings", "statistics", "tests"]
ROOMS = {"api", "block", "gate", "heap", "hot", "large", "meta", "observe", "os", "pages", "policy", "pprof", "prof",
         "reclaim", "slab"}
ENDINGS = {".c", ".cc", ".h", ".inc"}
TOKEN = re.compile(r"`([^`]*)`")


def is_test(path):
    return path.suffix in {".cc", ".py"} and path.stem.endswith("_test")


def is_box(path):
    helps_tests = path.stem == "unit_test" or path.stem.startswith("test_")
    return path.suffix in ENDINGS and not is_test(path) and not helps_tests


def rows(text):
    """(line number, column -> cell) of every row of every table with our columns."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells == COLUMNS:
            inside = True
        elif cells is None:
            inside = False
        elif inside and not all(set(cell) <= set("-: ") for cell in cells):
            yield number, cells


def problems(text, sources):
    """The errors of the page `text`. `sources`: path below allocator/ -> contents."""
    files = {path: pathlib.PurePosixPath(path) for path in sources}
    boxes = {path for path, pure in files.items() if len(pure.parts) == 2 and pure.parts[0] in ROOMS and is_box(pure)}
    tests = {path for path, pure in files.items() if len(pure.parts) == 2 and pure.parts[0] in ROOMS and is_test(pure)}
    settings = set(re.findall(r'"(HAKMEM_[A-Z_]+)"', sources.get("policy/gate_table.inc", "")))
    stats = re.search(r"typedef struct hak_stats \{(.*?)\n\}", sources.get("include/hakmem/hakmem.h", ""), re.S)
    statistics = set(re.findall(r"^ *uint\d+_t (\w+);", stats.group(1), re.M)) - {"version"} if stats else set()
    headers = "\n".join(content for path, content in sorted(sources.items()) if path.endswith(".h"))
    named_files, named_settings, named_statistics, named_tests = set(), set(), set(), set()
    found = []
    for number, cells in rows(text):

        def wrong(what, number=number):
            found.append(f"docs/BOXES.md:{number}: {what}")

        if len(cells) != len(COLUMNS):
            wrong(f"{len(cells)} cells, not {len(COLUMNS)}")
            continue
        cell = dict(zip(COLUMNS, cells))
        for column in COLUMNS:
            if not cell[column]:
                wrong(f"nothing in the column {column}; write – for nothing")
        token = {column: TOKEN.findall(cell[column]) for column in COLUMNS}
        own = set()
        for name in token["box"]:
            parts = {path for path in boxes if str(files[path].with_suffix("")) == name}
            if not parts:
                wrong(f"no file allocator/{name}.*")
            for path in sorted(parts & named_files):
                wrong(f"allocator/{path} has a row already")
            own |= parts
        if not token["box"]:
            wrong("names no box")
        named_files |= own
        own_text = "\n".join(sources[path] for path in sorted(own))
        for name in token["API"]:
            if not re.search(rf"\b{re.escape(name)}\b", own_text):
                wrong(f"{name} is not in the box's files")
        for name in token["settings"]:
            named_settings.add(name)
            if name not in settings:
                wrong(f"{name} is no setting")
        for name in token["statistics"]:
            named_statistics.add(name)
            if not re.search(rf"\b{re.escape(name)}\b", headers):
                wrong(f"{name} is in no header")
        for name in token["tests"]:
            named_tests.add(name)
            if name not in sources:
                wrong(f"no file allocator/{name}")
    found += [f"docs/BOXES.md: no row for allocator/{path}" for path in sorted(boxes - named_files)]
    found += [f"docs/BOXES.md: no row names the test allocator/{path}" for path in sorted(tests - named_tests)]
    found += [f"docs/BOXES.md: no row names the setting {name}" for name in sorted(settings - named_settings)]
    found += [f"docs/BOXES.md: no row names the statistic {name}" for name in sorted(statistics - named_statistics)]
    if not (boxes and settings and statistics):
        found.append("no box, no setting or no statistic found")
    return found


def self_check():
    """The check must be able to fail, once for each of its rules."""
    sources = {
        "os/a.h": "void hak_a(void);",
        "os/a.c": "",
        "os/a_test.cc": "",
        "os/test_help.h": "",
        "policy/gate_table.inc": 'HAK_GATE("HAKMEM_A")',
        "include/hakmem/hakmem.h": "typedef struct hak_stats {\n  uint32_t version;\n  uint64_t many;  // of it\n} hak_stats;",
    }
    head = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
    table = "| `policy/gate_table` | settings | – | – | – | – |\n"
    good = "| `os/a` | does it | `hak_a` | `HAKMEM_A` | `many` | `os/a_test.cc` |\n"
    assert not problems(head + table + good, sources), problems(head + table + good, sources)
    assert problems(head, {}) == ["no box, no setting or no statistic found"]
    for old, new, what in [
        (good, "", "no row for allocator/os/a.c"),
        (good, good + good, "has a row already"),
        ("`os/a`", "`os/a` `os/b`", "no file allocator/os/b.*"),
        ("`os/a`", "os a", "names no box"),
        ("`hak_a`", "`hak_b`", "not in the box's files"),
        ("`HAKMEM_A`", "`HAKMEM_B`", "HAKMEM_B is no setting"),
        ("`HAKMEM_A`", "–", "no row names the setting HAKMEM_A"),
        ("`many`", "`few`", "in no header"),
        ("`many`", "`few`", "no row names the statistic many"),
        ("`os/a_test.cc`", "`os/b_test.cc`", "no file allocator/os/b_test.cc"),
        ("`os/a_test.cc`", "–", "no row names the test allocator/os/a_test.cc"),
        ("does it", "", "nothing in the column job"),
        ("does it", "does it | twice", "7 cells"),
    ]:
        changed = problems(head + table + good.replace(old, new), sources)
        assert any(what in line for line in changed), (what, changed)


def main():
    self_check()
    root = pathlib.Path(__file__).resolve().parent.parent
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "allocator"],
        cwd=root,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    names = [name for name in listing.decode().split("\0") if name and (root / name).is_file()]
    sources = {
        name[len("allocator/") :]: (root / name).read_text(encoding="utf-8")
        for name in names
        if pathlib.PurePosixPath(name).suffix in ENDINGS | {".py"}
    }
    found = problems((root / "docs" / "BOXES.md").read_text(encoding="utf-8"), sources)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
