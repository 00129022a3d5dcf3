# SPDX-License-Identifier: Apache-2.0
"""Known answers for soak_stats.py, and the coverage of its interval on simulated runs."""

import random
import unittest

from bench.soak import soak_stats
from bench.soak.soak_stats import theil_sen


def ar1(source: random.Random, count: int, rho: float) -> list[float]:
    """Noise of variance 1 / (1 - rho^2) whose autocorrelation at lag k is rho^k."""
    value = source.gauss(0, 1) / (1 - rho * rho) ** 0.5
    values = []
    for _ in range(count):
        values.append(value)
        value = rho * value + source.gauss(0, 1)
    return values


class PercentileTest(unittest.TestCase):
    def test_known_answers(self):
        self.assertEqual(soak_stats.percentile([7], 99), 7)
        self.assertEqual(soak_stats.percentile([1, 2, 3, 4], 0), 1)
        self.assertEqual(soak_stats.percentile([1, 2, 3, 4], 50), 2.5)
        self.assertEqual(soak_stats.percentile([1, 2, 3, 4], 100), 4)

    def test_low_tail_of_a_thousand(self):
        samples = list(range(1001))
        self.assertAlmostEqual(soak_stats.percentile(samples, 1), 10)
        self.assertAlmostEqual(soak_stats.percentile(samples, 0.1), 1)

    def test_refused(self):
        for samples, percent in (([], 50), ([1], -1), ([1], 101)):
            with self.assertRaises(ValueError):
                soak_stats.percentile(samples, percent)

    def test_histogram(self):
        buckets = [(0, 10, 50), (10, 20, 40), (100, 300, 10)]
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 0), 0)
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 25), 5)
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 50), 10)
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 70), 15)
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 99), 280)
        self.assertAlmostEqual(soak_stats.histogram_percentile(buckets, 100), 300)
        with self.assertRaises(ValueError):
            soak_stats.histogram_percentile([], 50)


class SpreadTest(unittest.TestCase):
    def test_variation(self):
        self.assertEqual(soak_stats.variation([5, 5, 5]), 0)
        self.assertEqual(soak_stats.variation([5]), 0)
        self.assertEqual(soak_stats.variation([0, 0]), 0)
        self.assertAlmostEqual(soak_stats.variation([2, 4, 4, 4, 5, 5, 7, 9]), (32 / 7) ** 0.5 / 5)

    def test_ranks_share_ties(self):
        self.assertEqual(soak_stats.ranks([30, 10, 20, 20]), [4, 1, 2.5, 2.5])

    def test_autocorrelation(self):
        self.assertEqual(soak_stats.autocorrelation([3, 3, 3], 1), [1, 0])
        found = soak_stats.autocorrelation([1, -1] * 50, 2)
        self.assertAlmostEqual(found[1], -0.99)
        self.assertAlmostEqual(found[2], 0.98)

    def test_variance_of_s(self):
        self.assertAlmostEqual(soak_stats.kendall_variance(range(10)), 125)
        # Ten values with a tie of three: less 3 * 2 * 11 / 18.
        self.assertAlmostEqual(soak_stats.kendall_variance([1, 1, 1, 2, 3, 4, 5, 6, 7, 8]), 125 - 66 / 18)
        self.assertEqual(soak_stats.kendall_variance([4] * 10), 0)

    def test_student(self):
        for freedom, table in ((4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)):
            self.assertLess(abs(soak_stats.student_quantile(0.975, freedom) / table - 1), 0.01, freedom)

    def test_running(self):
        self.assertEqual(soak_stats.running([1, 9, 2, 3], 1, max), [9, 9, 9, 3])


class SlopeTest(unittest.TestCase):
    def test_constant(self):
        slope = theil_sen(range(100), [7] * 100)
        self.assertEqual((slope.value, slope.low, slope.high), (0, 0, 0))
        self.assertTrue(slope.holds_zero())

    def test_exact_line(self):
        slope = theil_sen([0.1 * i for i in range(100)], [5 + 0.3 * i for i in range(100)])
        self.assertAlmostEqual(slope.value, 3)
        self.assertAlmostEqual(slope.low, 3)
        self.assertAlmostEqual(slope.high, 3)
        self.assertEqual(slope.effective, 100)

    def test_sen_1968(self):
        # The example of Sen's paper: slope 4, and 2.25 < slope < 5.0 or wider at 93 %.
        slope = theil_sen([1, 2, 3, 4, 10, 12, 18], [9, 15, 19, 20, 45, 55, 78], 0.93)
        self.assertAlmostEqual(slope.value, 4)
        self.assertLessEqual(slope.low, 3.71)
        self.assertGreaterEqual(slope.high, 4.25)

    def test_outliers_do_not_tilt_it(self):
        source = random.Random(2)
        values = [2.0 * i + source.gauss(0, 1) for i in range(100)]
        values[90:] = [1e9] * 10
        self.assertAlmostEqual(theil_sen(range(100), values).value, 2.0, delta=0.1)

    def test_early_step(self):
        # Ranks have no sizes, so a low start can be significant, but a step of 500 hardly tilts the line.
        for length, most in ((5, 0.2), (20, 0.4)):
            alarms = 0
            for seed in range(40):
                source = random.Random(seed)
                slope = theil_sen(range(300), [(0 if i < length else 500) + source.gauss(0, 10) for i in range(300)])
                alarms += not slope.holds_zero()
                self.assertLess(abs(slope.value) * 300, 0.03 * 500)
            self.assertLessEqual(alarms / 40, most, length)

    def test_step_in_the_middle_widens_the_interval(self):
        # One step is neither a steady level nor a rate: the interval is wide and contains zero.
        source = random.Random(4)
        slope = theil_sen(range(300), [(0 if i < 150 else 500) + source.gauss(0, 10) for i in range(300)])
        self.assertTrue(slope.holds_zero(), slope)
        self.assertGreater(slope.high, 2)
        self.assertLess(slope.effective, 10)

    def test_staircase_is_drift(self):
        # A leak in steps: 64 KiB every 15 epochs.
        source = random.Random(5)
        slope = theil_sen(range(300), [64 * (i // 15) + 4 * round(source.gauss(0, 3)) for i in range(300)])
        self.assertFalse(slope.holds_zero(), slope)
        self.assertAlmostEqual(slope.value, 64 / 15, delta=0.1)

    def test_slow_curve_is_drift(self):
        self.assertFalse(theil_sen(range(300), [1000 * (i + 1) ** 0.5 for i in range(300)]).holds_zero())

    def test_long_series_are_thinned(self):
        source = random.Random(6)
        count = 5000
        slope = theil_sen(range(count), [0.5 * i + source.gauss(0, 100) for i in range(count)])
        self.assertLessEqual(slope.points, soak_stats.MOST_POINTS)
        self.assertGreater(slope.points, soak_stats.MOST_POINTS // 2)
        self.assertAlmostEqual(slope.value, 0.5, delta=0.01)

    def test_refused(self):
        with self.assertRaises(ValueError):
            theil_sen([1, 2], [1, 2])
        with self.assertRaises(ValueError):
            theil_sen([1, 2, 3], [1, 2])


class SimulationTest(unittest.TestCase):
    RUNS = 300
    EPOCHS = 100

    def false_alarms(self, rho: float) -> float:
        source = random.Random(7)
        times = range(self.EPOCHS)
        return sum(not theil_sen(times, ar1(source, self.EPOCHS, rho)).holds_zero() for _ in range(self.RUNS)) / self.RUNS

    def test_white_noise_is_steady(self):
        rate = self.false_alarms(0)
        self.assertLess(rate, 0.08)
        self.assertGreater(rate, 0.005)  # otherwise the interval is too wide to find anything

    def test_autocorrelated_noise_is_steady(self):
        for rho in (0.3, 0.6, 0.9):
            self.assertLess(self.false_alarms(rho), 0.10, rho)

    def test_correction_is_what_does_it(self):
        # Treated as independent, the same series raise an alarm in most cases. Otherwise the test above would show
        # nothing.
        source = random.Random(7)
        true_inflation, soak_stats.inflation = soak_stats.inflation, lambda residuals: 1.0
        try:
            alarms = sum(not theil_sen(range(100), ar1(source, 100, 0.9)).holds_zero() for _ in range(100))
        finally:
            soak_stats.inflation = true_inflation
        self.assertGreater(alarms, 50)

    def test_drift_is_found_and_recovered(self):
        for rho, share in ((0.0, 1.0), (0.6, 0.99), (0.9, 0.7)):
            source = random.Random(8)
            found, covered = 0, 0
            for _ in range(100):
                values = [0.2 * i + noise for i, noise in enumerate(ar1(source, self.EPOCHS, rho))]
                slope = theil_sen(range(self.EPOCHS), values)
                found += not slope.holds_zero()
                covered += slope.low <= 0.2 <= slope.high
                self.assertAlmostEqual(slope.value, 0.2, delta=0.02 / (1 - rho))
            self.assertGreaterEqual(found / 100, share, rho)
            self.assertGreaterEqual(covered / 100, 0.88, rho)


if __name__ == "__main__":
    unittest.main()
