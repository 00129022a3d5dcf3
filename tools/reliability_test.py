#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of reliability.py: what it reads of logs, and that the page that is checked in is current."""

import pathlib
import tempfile
import unittest

import reliability

LOAD = """build: 0.1.0 hardened header=always
load: blocks 20 resized 3 threads 9 forks 4 trims 5 settings 6 signals 7 looks 8 refused 2 signals-inside 1
load: live 12
load: 30 s, 64 threads, 0 faults
"""
SERIES = """build: 0.1.0 standard header=none
series Fork: calls 10 (mmap 6 munmap 4), runs 16 of 90, with a failed call 15, requests refused 3
[  FAILED  ] Programs/FaultSeries.EachCallFails/Exit
series Exit: calls 5 (mmap 5), runs 16 of 50, with a failed call 16, requests refused 0
[  PASSED  ] 2 tests.
"""


class Logs(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder) / "log"
            log.write_text(text, encoding="utf-8")
            return reliability.read_log(log)

    def test_load(self):
        key, run = self.read(LOAD)
        self.assertEqual(key, "load hardened")
        self.assertEqual((run["blocks"], run["refused"], run["seconds"], run["at-once"], run["threads"], run["faults"]),
                         (20, 2, 30, 64, 9, 0))
        self.assertEqual(self.read(LOAD.replace("always", "always tsan"))[0], "load hardened tsan")

    def test_series(self):
        key, run = self.read(SERIES)
        self.assertEqual(key, "series standard")
        self.assertEqual(run, {"programs": 2, "calls": 15, "runs": 32, "hit": 31, "refused": 3, "faults": 0})
        self.assertEqual(self.read(SERIES + "[  FAILED  ] 1 test, listed below:\n")[1]["faults"], 1)

    def test_what_was_cut_short_is_no_run(self):
        for text in ("", LOAD[:-30], SERIES[:-10].replace("[  PASSED", "["), SERIES.split("\n", 1)[1],
                     "build: 0.1.0 standard header=none\n[  PASSED  ] 0 tests.\n"):
            with self.subTest(text), self.assertRaises(reliability.Malformed):
                self.read(text)


class Page(unittest.TestCase):
    def test_is_what_the_records_say(self):
        self.assertEqual(reliability.PAGE.read_text(encoding="utf-8"), reliability.page(), "run tools/reliability.py")


if __name__ == "__main__":
    unittest.main()
