# SPDX-License-Identifier: Apache-2.0
"""Known answers for stats.py."""

import random
import unittest

from bench.lib import stats


class MedianTest(unittest.TestCase):
    def test_known_answers(self):
        self.assertEqual(stats.median([5]), 5)
        self.assertEqual(stats.median([3, 1, 2]), 2)
        self.assertEqual(stats.median([4, 1, 3, 2]), 2.5)

    def test_does_not_change_its_input(self):
        samples = [3, 1, 2]
        stats.median(samples)
        self.assertEqual(samples, [3, 1, 2])

    def test_no_samples(self):
        with self.assertRaises(ValueError):
            stats.median([])
        with self.assertRaises(ValueError):
            stats.median_interval([])


class IntervalTest(unittest.TestCase):
    def test_known_order_statistics(self):
        # n: the ranks (from 1) and the confidence of the usual tables for the sign test's interval.
        table = {
            2: (1, 2, 0.5),
            5: (1, 5, 0.9375),
            6: (1, 6, 0.96875),
            7: (1, 7, 0.984375),
            8: (1, 8, 0.9921875),
            9: (2, 8, 0.9609375),
            10: (2, 9, 0.978515625),
            20: (6, 15, 0.958610534667969),
        }
        for n, (low, high, coverage) in table.items():
            samples = list(range(1, n + 1))
            random.Random(n).shuffle(samples)
            interval = stats.median_interval(samples)
            self.assertEqual((interval.low, interval.high), (low, high), n)
            self.assertAlmostEqual(interval.coverage, coverage, 12)

    def test_one_sample_proves_nothing(self):
        self.assertEqual(stats.median_interval([3.0]), (3.0, 3.0, 0.0))

    def test_real_coverage(self):
        source = random.Random(1)
        for n in (7, 9, 15):
            hits = 0
            for _ in range(4000):
                interval = stats.median_interval([source.lognormvariate(0, 1) for _ in range(n)])
                hits += interval.low <= 1 <= interval.high
            self.assertGreater(hits / 4000, 0.94, n)


class RatioTest(unittest.TestCase):
    def test_pairs_cancel_what_slows_both(self):
        drift = [1, 0.5, 2, 0.7, 1.4, 0.9, 1.1]
        result = stats.ratio([1.1 * d for d in drift], drift)
        self.assertAlmostEqual(result.value, 1.1)
        self.assertAlmostEqual(result.interval.low, 1.1)
        self.assertAlmostEqual(result.interval.high, 1.1)

    def test_level_ones_are_not_told_apart(self):
        result = stats.ratio([1, 2, 1, 2, 1, 2, 1], [2, 1, 2, 1, 2, 1, 2])
        self.assertLessEqual(result.interval.low, 1)
        self.assertGreaterEqual(result.interval.high, 1)

    def test_unequal_lengths(self):
        with self.assertRaises(ValueError):
            stats.ratio([1, 2], [1])


if __name__ == "__main__":
    unittest.main()
