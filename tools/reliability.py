#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the allocator has withstood, from the records that are checked in.

    tools/reliability.py                  writes docs/analysis/reliability.md
    tools/reliability.py --record LOG...  first adds what load_test and fault_series_test printed; the newest run of a
                                          build replaces the one before

Records: fuzz/mutants/results.json and random_results.json, docs/analysis/testing/fuzzing.md and ci-long.md, and
proof-runs.json, which --record writes."""

import collections
import datetime
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/analysis/reliability.md"
NOTES = ROOT / "docs/analysis/testing"
RUNS = NOTES / "proof-runs.json"
HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by tools/reliability.py from the records; do not edit. -->
# What hakmem has withstood

Numbers of the records that are checked in. A `+` behind a commit: the tree had changes that are not in it.
"""


class Malformed(Exception):
    pass


def rows_of(path):
    """The rows of the tables of a page, as dictionaries by the heading of the column."""
    rows, heading = [], None
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            heading = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if heading is None:
            heading = cells
        elif not re.fullmatch(r"[:\- |]+", line.strip("|")):
            if len(cells) != len(heading):
                raise Malformed(f"{path.name}: {line}")
            rows.append(dict(zip(heading, cells)))
    return rows


def table(heading, rows, right):
    """`right`: how many of the last columns hold numbers."""
    lines = ["| " + " | ".join(heading) + " |",
             "|" + "|".join([" --- "] * (len(heading) - right) + [" ---: "] * right) + "|"]
    return lines + ["| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) + " |"
                    for row in rows]


def numbers_of(text):
    """The pairs `name number` of a line."""
    return {name: int(number) for name, number in re.findall(r"([a-z-]+) (\d+)", text)}


def read_log(path):
    """The run that a log tells of."""
    text = path.read_text(encoding="utf-8")
    build = re.search(r"^build: \S+ (\w+) header=\w+(?: (tsan|asan))?$", text, re.M)
    if not build:
        raise Malformed(f"{path}: no line `build:`")
    name = " ".join(word for word in build.groups() if word)
    end = re.search(r"^load: (\d+) s, (\d+) threads, (\d+) faults$", text, re.M)
    if end:
        counts = re.search(r"^load: (blocks .*)$", text, re.M)
        seconds, threads, faults = map(int, end.groups())
        return f"load {name}", {**numbers_of(counts.group(1)), "seconds": seconds, "at-once": threads, "faults": faults}
    series = re.findall(r"^series \S+: calls (\d+) \(.*\), runs (\d+) of \d+, with a failed call (\d+), requests refused (\d+)$",
                        text, re.M)
    # googletest's last lines: how many tests passed, and the list of those that did not.
    failed = re.search(r"^\[  FAILED  \] (\d+) tests?", text, re.M)
    if not series or not re.search(r"^\[  PASSED  \]", text, re.M):
        raise Malformed(f"{path}: cut short")
    calls, runs, hit, refused = (sum(int(row[column]) for row in series) for column in range(4))
    return f"series {name}", {"programs": len(series), "calls": calls, "runs": runs, "hit": hit, "refused": refused,
                              "faults": int(failed.group(1)) if failed else 0}


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()


def record(logs):
    runs = json.loads(RUNS.read_text(encoding="utf-8")) if RUNS.exists() else {}
    commit = git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    for log in logs:
        key, run = read_log(pathlib.Path(log))
        runs[key] = {**run, "commit": commit, "day": datetime.date.today().isoformat()}
    RUNS.write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def page():
    runs = json.loads(RUNS.read_text(encoding="utf-8"))

    def of(kind):
        return [(key.split(" ", 1)[1], run) for key, run in sorted(runs.items()) if key.startswith(kind + " ")]

    lines = [HEAD, "## Load held", "",
             "`//allocator/test/load:load_test`: threads that come and go pass blocks to each other, beside forks, trims, changing",
             "settings, limits near what is in use, and signals. Faults: whatever was wrong.", ""]
    lines += table(["build", "day", "commit", "seconds", "at once", "threads", "blocks", "forks", "trims", "settings",
                    "signals", "refused", "faults"],
                   [[name, run["day"], run["commit"], run["seconds"], run["at-once"], *(run[column] for column in
                     ("threads", "blocks", "forks", "trims", "settings", "signals", "refused", "faults"))]
                    for name, run in of("load")], 10)
    lines += ["", "## Faults survived", "",
              "`//allocator/test/kernel:fault_series_test`: programs whose system calls fail, alone or from one on. Each run of the test",
              "draws other calls.", ""]
    lines += table(["build", "day", "commit", "programs", "their calls", "runs", "with a failed call", "requests refused",
                    "tests failed"],
                   [[name, run["day"], run["commit"], *(run[column] for column in
                     ("programs", "calls", "runs", "hit", "refused", "faults"))] for name, run in of("series")], 6)
    sums = collections.defaultdict(lambda: [set(), 0, 0.0, 0, 0])
    for row in rows_of(NOTES / "fuzzing.md"):
        total = sums[row["sanitizer"], row["settings"]]
        total[0].add(row["target"])
        total[1] += 1
        total[2] += float(row["minutes"])
        total[3] += int(row["executions"])
        total[4] += int(row["findings"])
    lines += ["", "## Hostile inputs tried", "", "Sums of [the campaigns](testing/fuzzing.md), which says what the findings were.", ""]
    lines += table(["sanitizer", "settings", "targets", "campaigns", "minutes", "inputs", "findings"],
                   [[*key, len(targets), count, round(minutes), inputs, findings]
                    for key, (targets, count, minutes, inputs, findings) in sorted(sums.items())], 5)
    planted = json.loads((ROOT / "fuzz/mutants/results.json").read_text(encoding="utf-8")).values()
    drawn = json.loads((ROOT / "fuzz/mutants/random_results.json").read_text(encoding="utf-8")).values()
    judged = [row["verdict"] for row in drawn if row["verdict"] in ("killed", "survived")]
    lines += ["", "## Bugs noticed", "",
              "Bugs that were [planted by hand](testing/mutants.md) and [drawn at random](testing/random-mutants.md); killed: a test failed.", ""]
    lines += table(["bugs", "judged", "killed"],
                   [["planted", len(planted), sum(row["outcome"] == "killed" for row in planted)],
                    ["drawn", len(judged), judged.count("killed")]], 2)
    lines += ["", "## The long run", "", "The stages of [`.ci/run long`](testing/ci-long.md).", ""]
    lines += table(["stage", "day", "commit", "seconds", "passed", "failed"],
                   [[row["stage"], row["day"], row["commit"], *(int(row[column]) for column in ("seconds", "passed", "failed"))]
                    for row in rows_of(NOTES / "ci-long.md")], 3)
    return "\n".join(lines) + "\n"


def main():
    words = sys.argv[1:]
    if words[:1] == ["--record"] and len(words) > 1:
        record(words[1:])
    elif words:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Malformed as error:
        sys.exit(str(error))
