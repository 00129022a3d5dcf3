#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""not_run.py SEEN: checks .ci/not_run.txt after a whole run.

SEEN has the numbers of the lines that a case matched, as count_tests.py wrote them. Exits 1 and names each line that no
case matched: the test is gone, has another name, or the stage does not run it. Lines that depend on the machine may be
unmatched."""

import sys

from count_tests import read_list


def main():
    try:
        with open(sys.argv[1], encoding="utf-8") as stream:
            seen = {int(number) for number in stream.read().split()}
    except OSError as error:
        print("not_run.py: %s" % error)
        return 1
    unmatched = [line for line in read_list() if line.always and line.number not in seen]
    for line in unmatched:
        print(".ci/not_run.txt:%d: no test case matches %s %s" % (line.number, line.label, line.case))
    return 1 if unmatched else 0


if __name__ == "__main__":
    sys.exit(main())
