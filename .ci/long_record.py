#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""long_record.py STAGES SEED PAGE: writes what `.ci/run long` found to the page that is checked in.

STAGES has a line `NAME PASSED FAILED SECONDS` for each stage. The page says the date, the commit, and whether the tree had
changes that the commit does not have.
"""

import datetime
import subprocess
import sys


def git(*words):
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main():
    stages, seed, page = sys.argv[1:4]
    commit = git("rev-parse", "--short=12", "HEAD")
    changed = [line for line in git("status", "--porcelain", "--untracked-files=no").split("\n") if line and not line.endswith(page)]
    with open(stages, encoding="utf-8") as stream:
        rows = [line.split() for line in stream]
    lines = [
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        "# The last long run",
        "",
        "`.ci/run long` wrote this page. It runs what takes too long for every change; `.ci/run` says what each stage is.",
        "",
        "- Date: %s" % datetime.date.today().isoformat(),
        "- Commit: %s%s" % (commit, ", with %d changed files" % len(changed) if changed else ""),
        "- Seed: %s" % seed,
        "",
        "| stage | passed | failed | seconds |",
        "|---|---|---|---|",
    ]
    lines += ["| %s | %s | %s | %s |" % tuple(row) for row in rows]
    lines.append("| all | %d | %d | %d |" % tuple(sum(int(row[column]) for row in rows) for column in (1, 2, 3)))
    with open(page, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
