#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which lines of the allocator the corpora of the fuzz targets reach.

usage: report.py --root ROOT --table TABLE --settings SETTINGS [--floor PERCENT] --out REPORT FOLDER

FOLDER has a folder for each build profile with lcov files: allocator.lcov, every line with code of the allocator, and one
for each target, what its corpus reached. Writes the report. Exit status 1: the table of explanations does not fit, or the
total is below the floor; 2: there is nothing to report on.

The table has lines of four columns between tabs:
  never|sometimes   file   function   why a fuzz target does not reach all of the function
`sometimes`: it depends on how threads run, so it is no error if everything was reached. The function `*` stands for all
of a file of which nothing is reached."""
import argparse
import bisect
import pathlib
import sys


class TableError(Exception):
    pass


class Coverage:
    """Lines with code, lines reached, and where functions begin: {path: ...}, paths from the root."""

    def __init__(self):
        self.lines = {}
        self.reached = {}
        self.functions = {}

    def read(self, path, root):
        file = None
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, _, rest = line.partition(":")
            if kind == "SF":
                file = self._ours(rest, root)
            elif file is None:
                continue
            elif kind == "FN":
                start, name = rest.split(",", 1)
                name = name.rpartition(":")[2]
                known = self.functions.setdefault(file, {})
                # The C++ compiler mangles the name of an inline function of a header.
                if int(start) not in known or known[int(start)].startswith("_Z"):
                    known[int(start)] = name
            elif kind == "DA":
                number, count = rest.split(",")[:2]
                self.lines.setdefault(file, set()).add(int(number))
                if int(count):
                    self.reached.setdefault(file, set()).add(int(number))

    @staticmethod
    def _ours(path, root):
        try:
            name = pathlib.Path(path).resolve().relative_to(root).as_posix()
        except ValueError:
            return None
        if not name.startswith("allocator/") or name.startswith("allocator/test/") or name.endswith(("_test.cc", "unit_test.h")):
            return None
        return name

    def function_at(self, file, line):
        starts = sorted(self.functions.get(file, {}))
        position = bisect.bisect_right(starts, line)
        return self.functions[file][starts[position - 1]] if position else "?"

    def keep_code(self, root):
        """Removes comments, which clang counts as part of the surrounding code, and macros and tables before the first
        function, which count where they are used."""
        for file in list(self.lines):
            text = (root / file).read_text(encoding="utf-8").splitlines()
            self.lines[file] = {line for line in self.lines[file] if self.function_at(file, line) != "?"
                                and text[line - 1].strip() and not text[line - 1].lstrip().startswith("//")}
            if not self.lines[file]:
                del self.lines[file]

    def restrict(self, lines):
        """Keeps only `lines`: a target also contains functions of headers that its own code uses."""
        for file in list(self.reached):
            self.reached[file] &= lines.get(file, set())


def percent(part, whole):
    return "%.1f %%" % (100.0 * part / whole if whole else 0.0)


def count(lines):
    return sum(map(len, lines.values()))


def ranges(numbers):
    """1-3, 7 from {1, 2, 3, 7}."""
    found = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join("%d" % first if first == last else "%d-%d" % (first, last) for first, last in found)


def read_table(path):
    """{(file, function): (kind, why)}"""
    table = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 4 or cells[0] not in ("never", "sometimes") or not all(cells):
            raise TableError("%s:%d: not `never|sometimes <tab> file <tab> function <tab> why`" % (path, number))
        if (cells[1], cells[2]) in table:
            raise TableError("%s:%d: %s of %s stands there twice" % (path, number, cells[2], cells[1]))
        table[(cells[1], cells[2])] = (cells[0], cells[3])
    return table


def explain(whole, missing, table):
    """([(file, function, lines, why)], [what does not fit])."""
    rows, wrong, used = [], [], set()
    for file, functions in sorted(missing.items()):
        for function, lines in functions.items():
            row = table.get((file, function))
            key = (file, function)
            if row is None and (file, "*") in table and not whole.reached.get(file):
                key = (file, "*")
                row = table[key]
            used.add(key)
            if row is None:
                wrong.append("%s: %s: lines %s are not reached, and the table has no explanation" %
                             (file, function, ranges(lines)))
            rows.append((file, function, lines, row[1] if row else "**not explained**"))
    for (file, function), (kind, _) in table.items():
        if (file, function) not in used and (kind == "never" or function not in
                                             list(whole.functions.get(file, {}).values()) + ["*"]):
            wrong.append("%s: %s: the table explains why it is not reached, but all of it is, or it is not there" %
                         (file, function))
    return rows, wrong


HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by fuzz/coverage.sh; do not edit. The explanations are in fuzz/coverage/unreached.tsv. -->
# Coverage of the fuzz corpora

This page counts the lines of code in `allocator/`, as built into `//allocator:malloc`, that the fuzz targets reach when each
replays its corpus (clang 19, source coverage). Tests reach more; they are not counted here. Each corpus is replayed once for each line
of `fuzz/coverage/settings.txt`, because a process reads its settings once:

%s

A line counts as reached when it is reached in at least one of the build profiles that contain it.

| build profile | lines | reached | |
| --- | ---: | ---: | ---: |
%s

## Targets

Lines that each target reaches, and lines that only it reaches, all profiles together.

| target | reached | alone |
| --- | ---: | ---: |
%s

## Files

| file | lines | reached | |
| --- | ---: | ---: | ---: |
%s

## Not reached

| file | function | lines | why |
| --- | --- | --- | --- |
%s
"""


def unite(into, lines):
    for file, numbers in lines.items():
        into.setdefault(file, set()).update(numbers)


def main():
    parser = argparse.ArgumentParser()
    for option in ("--root", "--table", "--settings", "--out"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    parser.add_argument("--floor", type=float, default=0.0)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    root = arguments.root.resolve()

    whole = Coverage()
    by_target = {}
    profile_rows = []
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        every = Coverage()
        every.read(folder / "allocator.lcov", root)
        every.keep_code(root)
        reached = {}
        for path in sorted(folder.glob("*.lcov")):
            if path.name == "allocator.lcov":
                continue
            one = Coverage()
            one.read(path, root)
            one.restrict(every.lines)
            unite(reached, one.reached)
            unite(by_target.setdefault(path.stem, {}), one.reached)
        unite(whole.lines, every.lines)
        unite(whole.reached, reached)
        for file, functions in every.functions.items():
            for start, name in functions.items():
                whole.functions.setdefault(file, {}).setdefault(start, name)
        profile_rows.append((folder.name, count(every.lines), count(reached)))
    if not count(whole.lines) or not by_target:
        print("report.py: %s: no line with code" % arguments.folder, file=sys.stderr)
        return 2
    total, reached = count(whole.lines), count(whole.reached)
    profile_rows.append(("**all**", total, reached))

    missing = {}
    for file, lines in whole.lines.items():
        for line in sorted(lines - whole.reached.get(file, set())):
            missing.setdefault(file, {}).setdefault(whole.function_at(file, line), []).append(line)
    try:
        table = read_table(arguments.table)
    except (TableError, OSError) as error:
        print("report.py: %s" % error, file=sys.stderr)
        return 2
    rows, wrong = explain(whole, missing, table)

    targets = []
    for name, lines in sorted(by_target.items()):
        others = {}
        for other, other_lines in by_target.items():
            if other != name:
                unite(others, other_lines)
        alone = sum(len(numbers - others.get(file, set())) for file, numbers in lines.items())
        targets.append("| `%s` | %d | %d |" % (name, count(lines), alone))
    settings = [line for line in arguments.settings.read_text(encoding="utf-8").splitlines()
                if line and not line.startswith("#")]
    report = HEAD % (
        "\n".join("    " + line for line in settings),
        "\n".join("| %s | %d | %d | %s |" % (name, lines, hit, percent(hit, lines)) for name, lines, hit in profile_rows),
        "\n".join(targets),
        "\n".join("| `%s` | %d | %d | %s |" % (file, len(lines), len(whole.reached.get(file, ())),
                                               percent(len(whole.reached.get(file, ())), len(lines)))
                  for file, lines in sorted(whole.lines.items())),
        "\n".join("| `%s` | `%s` | %s | %s |" % (file, function, ranges(lines), why) for file, function, lines, why in rows))
    arguments.out.write_text(report, encoding="utf-8")
    for message in wrong:
        print(message)
    print("%d of %d lines reached: %s" % (reached, total, percent(reached, total)))
    if 100.0 * reached < arguments.floor * total:
        print("below the floor of %.1f %%" % arguments.floor)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
