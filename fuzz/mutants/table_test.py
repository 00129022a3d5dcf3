#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every mutant fits the sources, and the pages of results fit mutants and results: table_test.py PAGE..."""

import json
import pathlib
import sys

sys.path.insert(0, "fuzz/mutants")
import plant  # noqa: E402
import tables  # noqa: E402

LEAST_MUTANTS = 40
FOLDER = pathlib.Path("fuzz/mutants")


def problems(pages):
    mutants = tables.load(FOLDER)
    if len(tables.planted(mutants)) < LEAST_MUTANTS:
        yield f"fewer than {LEAST_MUTANTS} mutants"
    if not any(mutant.get("ci") for mutant in mutants):
        yield "no mutant is marked for CI"
    loads = (FOLDER / "mutants.bzl").read_text(encoding="utf-8")
    for table in FOLDER.glob("table_*.bzl"):
        if f'load(":{table.name}"' not in loads:
            yield f"mutants.bzl does not load {table.name}"
    for mutant in mutants:
        try:
            source = pathlib.Path(mutant["file"]).read_text(encoding="utf-8")
            plant.plant(mutant["name"], mutant["file"], source, mutant["old"], mutant["new"])
        except (OSError, ValueError) as error:
            yield str(error)
    results = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    for mutant in tables.planted(mutants):
        result = tables.outcome(mutant, results)
        survived = result is not None and result["outcome"] != "killed"
        if survived != ("explanation" in mutant):
            yield f"mutant {mutant['name']}: {'survived' if survived else 'killed or not run'}, and " \
                  f"{'nothing explains it' if survived else 'has an explanation'}"
    written = {pathlib.Path(page).name: pathlib.Path(page).read_text(encoding="utf-8") for page in pages}
    if written.keys() != tables.PAGES.keys():
        yield f"the pages are {', '.join(tables.PAGES)}, not {', '.join(written)}"
    for name, text in tables.render(mutants, results).items():
        if written.get(name) != text:
            yield f"{name} is not what run_mutants.py --report writes"
    rooms = {tables.room(mutant)[0] for mutant in tables.planted(mutants)}
    for letter in sorted(rooms):
        if sum(first <= letter < end for first, end in tables.PAGES.values()) != 1:
            yield f"rooms with {letter} are not on exactly one page"


def controls():
    """plant() must refuse what does not fit."""
    for text, old, new in (("a", "b", "c"), ("aa", "a", "b"), ("a", "a", "a"), ("a", "", "b")):
        try:
            plant.plant("control", "text", text, old, new)
        except ValueError:
            continue
        yield f"plant({text!r}, {old!r}, {new!r}) was not refused"
    if plant.plant("control", "text", "abc", "b", "x") != "axc":
        yield "plant() does not replace"


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(controls()) + list(problems(sys.argv[1:]))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
