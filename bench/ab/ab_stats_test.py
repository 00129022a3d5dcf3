# SPDX-License-Identifier: Apache-2.0
"""Known answers for ab_stats.py: synthetic series with a known difference, and the interval's real coverage."""

import math
import random
import unittest

from bench.ab import ab_stats
from bench.ab.ab_stats import GO, NEUTRAL, NO_GO, UNDECIDED, Ratio


def series(shift, noise, pairs, seed=1, drift=0.2):
    """The throughputs of two arms: B is `shift` times A. A slow drift changes both by 20 percent, noise by a few
    percent."""
    source = random.Random(seed)
    a, b = [], []
    for i in range(pairs):
        level = 1e8 * (1 + drift * math.sin(i))
        a.append(level * math.exp(source.gauss(0, noise)))
        b.append(level * shift * math.exp(source.gauss(0, noise)))
    return a, b


def judged(shift, noise, pairs, seed=1, lower_is_better=False):
    logs = ab_stats.log_ratios(*series(shift, noise, pairs, seed))
    return ab_stats.verdict(ab_stats.bootstrap(logs), lower_is_better)


class VerdictTest(unittest.TestCase):
    def test_known_differences(self):
        for seed in range(10):
            self.assertEqual(judged(1.00, 0.003, 20, seed), NEUTRAL, seed)
            self.assertEqual(judged(0.97, 0.003, 20, seed), NO_GO, seed)
            self.assertEqual(judged(1.03, 0.003, 20, seed), GO, seed)

    def test_straddling_a_limit(self):
        # A true difference at the limit: 2.5 % of the intervals lie on either side of it.
        for shift in (0.99, 1.01):
            verdicts = [judged(shift, 0.001, 20, seed) for seed in range(20)]
            self.assertGreaterEqual(verdicts.count(UNDECIDED), 17, verdicts)
        self.assertEqual(ab_stats.verdict(Ratio(1.01, 1.005, 1.015, 10)), UNDECIDED)
        self.assertEqual(ab_stats.verdict(Ratio(0.99, 0.985, 0.995, 10)), UNDECIDED)
        self.assertEqual(ab_stats.verdict(Ratio(1.0, 0.9, 1.1, 10)), UNDECIDED)
        self.assertEqual(judged(1.0, 0.2, 10), UNDECIDED)

    def test_the_limits_themselves(self):
        self.assertEqual(ab_stats.verdict(Ratio(1.02, 1.01, 1.03, 10)), GO)
        self.assertEqual(ab_stats.verdict(Ratio(0.98, 0.97, 0.99, 10)), NO_GO)
        self.assertEqual(ab_stats.verdict(Ratio(1.0, 0.9901, 1.0099, 10)), NEUTRAL)
        self.assertEqual(ab_stats.verdict(Ratio(1.0, 0.99, 1.0, 10)), UNDECIDED)
        self.assertEqual(ab_stats.verdict(Ratio(1.0, 1.0, 1.01, 10)), UNDECIDED)

    def test_lower_is_better(self):
        self.assertEqual(judged(0.97, 0.003, 20, lower_is_better=True), GO)
        self.assertEqual(judged(1.03, 0.003, 20, lower_is_better=True), NO_GO)
        self.assertEqual(judged(1.00, 0.003, 20, lower_is_better=True), NEUTRAL)

    def test_few_pairs_decide_nothing(self):
        self.assertEqual(judged(1.5, 0.001, ab_stats.MIN_PAIRS - 1), UNDECIDED)
        self.assertEqual(judged(1.5, 0.001, ab_stats.MIN_PAIRS), GO)

    def test_one_disturbed_run_does_not_decide(self):
        a, b = series(1.0, 0.001, 10)
        b[3] /= 3
        self.assertEqual(ab_stats.verdict(ab_stats.bootstrap(ab_stats.log_ratios(a, b))), NEUTRAL)

    def test_wrong_verdicts_are_rare(self):
        # No true difference, and so much noise that the interval is about as wide as the limits. GO and NO-GO together
        # may occur in at most about 5 % of comparisons.
        wrong = 0
        for seed in range(200):
            logs = ab_stats.log_ratios(*series(1.0, 0.02, 10, seed))
            wrong += ab_stats.verdict(ab_stats.bootstrap(logs, resamples=500)) in (GO, NO_GO)
        self.assertLess(wrong / 200, 0.05)


class BootstrapTest(unittest.TestCase):
    def test_equal_ratios_have_no_width(self):
        ratio = ab_stats.bootstrap([math.log(1.25)] * 7)
        for value in (ratio.value, ratio.low, ratio.high):
            self.assertAlmostEqual(value, 1.25, 12)
        self.assertEqual(ratio.pairs, 7)

    def test_the_same_samples_give_the_same_interval(self):
        logs = ab_stats.log_ratios(*series(1.0, 0.02, 15))
        self.assertEqual(ab_stats.bootstrap(logs), ab_stats.bootstrap(logs))
        self.assertEqual(ab_stats.bootstrap(logs), ab_stats.bootstrap(logs[::-1]))

    def test_arms_exchanged_give_the_inverse(self):
        a, b = series(1.1, 0.02, 15)
        one, other = ab_stats.bootstrap(ab_stats.log_ratios(a, b)), ab_stats.bootstrap(ab_stats.log_ratios(b, a))
        self.assertAlmostEqual(one.value, 1 / other.value, 12)
        self.assertAlmostEqual(one.low, 1 / other.high, 2)

    def test_against_the_exact_distribution(self):
        # The bootstrap median of three samples is the smallest with chance 7/27, which is more than 2.5 %.
        ratio = ab_stats.bootstrap([0.0, 1.0, 2.0])
        self.assertEqual((ratio.low, ratio.high), (1.0, math.exp(2.0)))
        # Of seven: P(median is the smallest) = P(Bin(7, 1/7) >= 4) = 1.0 %, of the two smallest 9.6 %.
        ratio = ab_stats.bootstrap([float(i) for i in range(7)])
        self.assertEqual((ratio.low, ratio.high), (math.exp(1.0), math.exp(5.0)))

    def test_more_samples_give_narrower_intervals(self):
        widths = []
        for pairs in (10, 40, 160):
            widths.append(0.0)
            for seed in range(10):
                ratio = ab_stats.bootstrap(ab_stats.log_ratios(*series(1.0, 0.02, pairs, seed)), resamples=200)
                widths[-1] += ratio.high - ratio.low
        self.assertGreater(widths[0], 1.5 * widths[1])
        self.assertGreater(widths[1], 1.5 * widths[2])

    def test_real_coverage(self):
        # Normal noise, and noise in which every seventh pair is disturbed six times as much.
        for pairs in (6, 10, 20):
            for disturbed in (0.0, 0.15):
                source = random.Random(pairs)
                hits = 0
                for _ in range(600):
                    logs = [source.gauss(0, 0.06 if source.random() < disturbed else 0.01) for _ in range(pairs)]
                    ratio = ab_stats.bootstrap(logs, resamples=300)
                    hits += ratio.low <= 1 <= ratio.high
                self.assertGreater(hits / 600, 0.915, (pairs, disturbed))
                self.assertLess(hits / 600, 0.99, (pairs, disturbed))

    def test_no_samples(self):
        with self.assertRaises(ValueError):
            ab_stats.bootstrap([])
        with self.assertRaises(ValueError):
            ab_stats.log_ratios([1, 2], [1])


class RunsToDecideTest(unittest.TestCase):
    def test_known_answers(self):
        # Half as wide as needed: four times the runs.
        self.assertEqual(ab_stats.runs_to_decide(Ratio(1.0, 0.98, 1.02, 10)), 40)
        self.assertEqual(ab_stats.runs_to_decide(Ratio(1.03, 0.99, 1.07, 10)), 40)
        self.assertIsNone(ab_stats.runs_to_decide(Ratio(1.01, 1.0, 1.02, 10)))
        self.assertIsNone(ab_stats.runs_to_decide(Ratio(1.0099, 1.0, 1.02, 10)))
        self.assertEqual(ab_stats.runs_to_decide(Ratio(1.5, 1.49, 1.51, 3)), ab_stats.MIN_PAIRS)


class MeanTest(unittest.TestCase):
    def test_geometric_mean_by_round(self):
        double, half = [math.log(2)] * 6, [math.log(0.5)] * 6
        self.assertAlmostEqual(ab_stats.bootstrap(ab_stats.mean_by_round([double, half])).value, 1.0)
        self.assertAlmostEqual(ab_stats.bootstrap(ab_stats.mean_by_round([double, [0.0] * 6])).value, math.sqrt(2))

    def test_counts(self):
        equal = ab_stats.range_of_counts([50, 50, 50], [60, 60, 60])
        self.assertEqual((equal.value, equal.low, equal.high), (1.2, 1.2, 1.2))
        self.assertEqual(ab_stats.verdict(equal, lower_is_better=True), NO_GO)
        varied = ab_stats.range_of_counts([50, 60, 50], [48, 66, 50])
        self.assertEqual((varied.value, varied.low, varied.high), (1.0, 0.8, 1.32))
        self.assertEqual(ab_stats.verdict(varied, lower_is_better=True), UNDECIDED)
        both = ab_stats.geometric_mean([Ratio(2, 1, 4, 0), Ratio(0.5, 0.25, 1, 0)])
        self.assertEqual((both.value, both.low, both.high), (1.0, 0.5, 2.0))


if __name__ == "__main__":
    unittest.main()
