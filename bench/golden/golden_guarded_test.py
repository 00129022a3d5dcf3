# SPDX-License-Identifier: Apache-2.0
"""The golden table of OBSERVE and HARDENED. golden_test.py has that of FAST and STANDARD, and tests the tools."""

import io
import unittest

from bench.golden import golden


class GuardedTest(unittest.TestCase):
    def test_the_paths_of_this_build_are_golden(self):
        lines = io.StringIO()
        self.assertEqual(golden.check(["observe", "hardened"], lines), 0, lines.getvalue())


if __name__ == "__main__":
    unittest.main()
