#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The strict reader refuses texts that break a rule, one for each rule."""

import unittest

from exposition import FormatError, parse, value_of

GOOD = """\
# HELP a_total Some.
# TYPE a_total counter
a_total{x="1"} 3
a_total{x="2"} 4
# HELP b_bytes Others.
# TYPE b_bytes gauge
b_bytes 5
# HELP c_seconds Times.
# TYPE c_seconds histogram
c_seconds_bucket{le="0.1"} 1
c_seconds_bucket{le="1"} 3
c_seconds_bucket{le="+Inf"} 4
c_seconds_sum 2.5
c_seconds_count 4
"""


class ExpositionTest(unittest.TestCase):
    def test_reads_a_good_text(self):
        values = parse(GOOD)
        self.assertEqual(value_of(values, "b_bytes"), 5)
        self.assertEqual(values["a_total"][(("x", "2"),)], 4)

    def test_refuses(self):
        for old, new in [
            ("# HELP a_total Some.\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("# TYPE a_total counter\n", "# TYPE a_total text\n"),
            ("a_total", "a"),
            ("b_bytes", "b_bytes_total"),
            ('x="2"', 'x="1"'),
            ('x="2"}', "x=2}"),
            ("b_bytes 5", "b_bytes five"),
            ("b_bytes 5", "b_bytes NaN"),
            ("b_bytes 5", "c_bytes 5"),
            ("b_bytes 5\n", "b_bytes 5\n\n"),
            ('a_total{x="2"} 4', 'a_total{x="2"} -4'),
            ("c_seconds_bucket{le=\"+Inf\"} 4\n", ""),
            ("c_seconds_count 4", "c_seconds_count 5"),
            ("c_seconds_sum 2.5\n", ""),
            ('le="1"} 3', 'le="1"} 0'),
            ('le="0.1"', 'le="2"'),
            ("c_seconds_count 4\n", "c_seconds_count 4"),
            ("c_seconds_count 4\n", "c_seconds_count 4\n# HELP d None.\n"),
            ("c_seconds_count 4\n", "c_seconds_count 4\n# HELP b_bytes Others.\n# TYPE b_bytes gauge\nb_bytes 6\n"),
        ]:
            with self.subTest(old=old, new=new):
                changed = GOOD.replace(old, new)
                self.assertNotEqual(changed, GOOD)
                with self.assertRaises(FormatError):
                    parse(changed)


if __name__ == "__main__":
    unittest.main()
