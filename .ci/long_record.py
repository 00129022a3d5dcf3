#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""long_record.py STAGES SEED PAGE: writes the results of stages of `.ci/run long` into the page that is checked in.

STAGES has a line `NAME PASSED FAILED SECONDS` for each stage; PAGE keeps the rows of all others. A row has the day, the
commit, and whether the tree had uncommitted changes."""

import datetime
import subprocess
import sys

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# The last long run

`.ci/run long` writes this page, and so does each of its stages by itself. They are what takes too long for every change;
`.ci/run` says what each one is. A `+` behind a commit: the tree had changes that are not in it.

| stage | passed | failed | seconds | day | commit | seed |
|---|---|---|---|---|---|---|
"""


def git(*words):
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def read_rows(page):
    try:
        with open(page, encoding="utf-8") as stream:
            lines = [line for line in stream if line.startswith("| ")]
    except FileNotFoundError:
        return {}
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows if row[0] != "stage"}


def main():
    stages, seed, page = sys.argv[1:4]
    commit = git("rev-parse", "--short=12", "HEAD").strip()
    changed = [line for line in git("status", "--porcelain", "--untracked-files=no").splitlines() if not line.endswith(page)]
    rows = read_rows(page)
    with open(stages, encoding="utf-8") as stream:
        for line in stream:
            found = line.split()
            rows[found[0]] = found + [datetime.date.today().isoformat(), commit + ("+" if changed else ""), seed]
    with open(page, "w", encoding="utf-8") as stream:
        stream.write(HEAD)
        stream.writelines("| %s |\n" % " | ".join(row) for row in rows.values())


if __name__ == "__main__":
    main()
