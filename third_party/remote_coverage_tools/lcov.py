#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Merges coverage data into one lcov file.

Bazel calls it after each test (--coverage_dir: gcov's JSON and lcov files of this test) and once at the end
(--reports_file: a list of the lcov files of all tests). It handles lines and functions, but not branches, which gcov's
JSON does not have here."""

import argparse
import collections
import gzip
import json
import pathlib
import re


class Source:
    """The data of one source file: how often each line and each function ran."""

    def __init__(self):
        self.lines = collections.Counter()
        self.functions = collections.Counter()
        self.starts = {}


def read_gcov(path, sources):
    with gzip.open(path, "rt") as stream:
        data = json.load(stream)
    for entry in data["files"]:
        source = sources[entry["file"]]
        for line in entry["lines"]:
            source.lines[line["line_number"]] += line["count"]
        for function in entry["functions"]:
            source.functions[function["name"]] += function["execution_count"]
            source.starts[function["name"]] = function["start_line"]


def read_lcov(path, sources):
    source = None
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(":")
        if kind == "SF":
            source = sources[rest]
        elif kind == "DA":
            number, count = rest.split(",")[:2]
            source.lines[int(number)] += int(count)
        elif kind == "FN":
            start, name = rest.split(",", 1)
            source.functions[name] += 0
            source.starts[name] = int(start)
        elif kind == "FNDA":
            count, name = rest.split(",", 1)
            source.functions[name] += int(count)


def write_lcov(path, sources):
    with open(path, "w", encoding="utf-8") as out:
        for name in sorted(name for name in sources if sources[name].lines):
            source = sources[name]
            out.write(f"SF:{name}\n")
            for function in sorted(source.functions):
                out.write(f"FN:{source.starts.get(function, 0)},{function}\n")
                out.write(f"FNDA:{source.functions[function]},{function}\n")
            out.write(f"FNF:{len(source.functions)}\nFNH:{sum(1 for n in source.functions.values() if n)}\n")
            for number in sorted(source.lines):
                out.write(f"DA:{number},{source.lines[number]}\n")
            out.write(f"LF:{len(source.lines)}\nLH:{sum(1 for n in source.lines.values() if n)}\nend_of_record\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coverage_dir", type=pathlib.Path)
    parser.add_argument("--reports_file", type=pathlib.Path)
    parser.add_argument("--output_file", required=True)
    parser.add_argument("--filter_sources", action="append", default=[])
    options, _ = parser.parse_known_args()

    sources = collections.defaultdict(Source)
    if options.coverage_dir:
        for path in sorted(options.coverage_dir.rglob("*.gcov.json.gz")):
            read_gcov(path, sources)
        for path in sorted(options.coverage_dir.rglob("*.dat")):
            if str(path) != options.output_file:
                read_lcov(path, sources)
    if options.reports_file:
        for line in options.reports_file.read_text().splitlines():
            path = pathlib.Path(line)
            if line and path.exists() and path.stat().st_size:
                read_lcov(path, sources)

    filters = [re.compile(pattern) for pattern in options.filter_sources]
    kept = {
        name: source
        for name, source in sources.items()
        if not name.startswith(("/", "external/")) and not any(f.fullmatch(name) for f in filters)
    }
    write_lcov(options.output_file, kept)


if __name__ == "__main__":
    main()
