#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare_test.py SERVER SERVER_LIBC LOAD: the comparison runs, and its table has the measured values."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import compare

PROGRAMS = []
HERE = pathlib.Path(__file__).parent


def start(*options):
    programs = ["--server=" + PROGRAMS[0], "--server-libc=" + PROGRAMS[1], "--load=" + PROGRAMS[2]]
    return subprocess.run(
        [sys.executable, str(HERE / "compare.py"), *programs, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class CompareTest(unittest.TestCase):
    def test_table(self):
        reports = [dict.fromkeys([column[1] for column in compare.COLUMNS], value << 20) for value in (3, 1, 2)]
        lines = compare.table({"a": reports, "b": reports[:1]})
        self.assertEqual(len(lines), 4)
        self.assertEqual({line.count("|") for line in lines}, {len(compare.COLUMNS) + 2})
        self.assertIn("| 2097152 [1048576, 3145728] |", lines[2])
        self.assertTrue(lines[2].endswith("| 2.0 [1.0, 3.0] |"))
        self.assertTrue(lines[3].endswith("| 3.0 |"))

    def test_a_short_run(self):
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "table.md")
            done = start("--rounds=2", "--requests=2000", "--settle-s=0", "--keys=500", "--output=" + output)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(pathlib.Path(output).read_text(encoding="utf-8"), done.stdout)
        rows = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
        self.assertEqual(rows, ["| hakmem", "| hakmem HAKMEM_BACKGROUND=1", "| libc"], done.stdout)
        self.assertIn("; hakmem 0.", done.stdout)
        # Two rounds, which begin with different servers.
        order = [line.split(", ")[1].split(":")[0] for line in done.stderr.splitlines() if line.startswith("round ")]
        names = ["hakmem", "hakmem HAKMEM_BACKGROUND=1", "libc"]
        self.assertEqual(order, names + names[1:] + names[:1])

    def test_bad_options(self):
        for option in ["--rounds=0", "--requests=x", "--nonsense", "--threads=4"]:
            done = start(option)
            self.assertEqual((done.returncode, done.stdout), (2, ""), option)
            self.assertIn("usage: ", done.stderr)


if __name__ == "__main__":
    PROGRAMS += sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
