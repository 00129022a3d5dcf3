#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hakmem_limit: what its tests say of programs that stay within the limit, exceed it, fail, or would not heed it.

usage: limit_test.py PROFILE WITHIN_64MB ELSEWHERE_WITHIN_64MB WITHIN_64MB_IN_FAST

PROFILE is `fast` if the first two are built in FAST, otherwise `other`."""

import subprocess
import sys
import unittest

PROFILE, WITHIN, ELSEWHERE, FAST = sys.argv[1:]


def run(*command):
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    return done.returncode, done.stdout, done.stderr


class Limit(unittest.TestCase):
    def test_a_program_that_stays_within_it(self):
        for arguments in [], ["40"]:
            status, said, errors = run(WITHIN, *arguments)
            self.assertEqual((status, errors), (0, ""), said)
            self.assertNotIn("failed", said)

    def test_a_program_that_needs_more(self):
        status, said, errors = run(WITHIN, "80")
        self.assertEqual(status, 134)
        self.assertIn("bad_alloc", errors)
        self.assertRegex(said, r":limit_child failed with status 134 within 64 MiB\. If it passes without the limit, it needs more\.\n$")

    def test_a_program_that_fails_anyway(self):
        status, said, _ = run(WITHIN, "1", "7")
        self.assertEqual(status, 7)
        self.assertIn(":limit_child failed with status 7 within 64 MiB.", said)

    def test_a_program_on_another_malloc(self):
        status, said, _ = run(ELSEWHERE)
        self.assertEqual(status, 1)
        self.assertIn("FAILED: ", said)
        self.assertIn('malloc = "@hakmem//allocator:malloc"', said)


class Fast(unittest.TestCase):
    def test_has_no_limit(self):
        for test in [FAST, WITHIN, ELSEWHERE] if PROFILE == "fast" else [FAST]:
            self.assertEqual(run(test), (1, "FAILED: FAST has no memory limit; use another @hakmem//configs:profile\n", ""))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], defaultTest="Fast" if PROFILE == "fast" else None)
