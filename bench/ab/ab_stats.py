# SPDX-License-Identifier: Apache-2.0
"""The statistics of an A/B comparison: the ratio B/A of paired runs, its bootstrap interval, and the verdict.

The estimate is the median of the pairs' ratios, which a few disturbed runs cannot move far. Its interval is the
percentile bootstrap's (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13): for the median it holds
what it promises from six pairs on, as ab_stats_test shows by simulation; for the mean of ten pairs it is too narrow.
"""

import math
import random
from dataclasses import dataclass
from typing import List, Optional, Sequence

from bench.lib import stats

LIMIT = 0.01  # a smaller difference counts as none
RESAMPLES = 10_000
SEED = 1
# With fewer pairs, no interval within the range of the samples has 95 % confidence.
MIN_PAIRS = 6
# If more runs than this would be needed, the true difference is practically at the limit.
MOST_RUNS = 1000

GO, NO_GO, NEUTRAL, UNDECIDED = "GO", "NO-GO", "NEUTRAL", "UNDECIDED"


@dataclass(frozen=True)
class Ratio:
    """B/A with its 95 % interval. `pairs` is 0 if the interval is a range of counts instead."""

    value: float
    low: float
    high: float
    pairs: int


def log_ratios(a: Sequence[float], b: Sequence[float]) -> List[float]:
    """log(b[i] / a[i]). The pairs are from one round, so that a temporary slowdown of the machine cancels out."""
    if len(a) != len(b):
        raise ValueError(f"cannot pair {len(a)} samples with {len(b)}")
    return [math.log(y / x) for x, y in zip(a, b)]


def mean_by_round(series: Sequence[Sequence[float]]) -> List[float]:
    """The series' mean for each round: of log ratios, that of the geometric mean over the workloads."""
    return [sum(values) / len(values) for values in zip(*series)]


def bootstrap(logs: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> Ratio:
    """The median of the log ratios and its interval, as ratios. The same samples always give the same interval."""
    if not logs:
        raise ValueError("bootstrap of no samples")
    source = random.Random(seed)
    n = len(logs)
    ordered = sorted(logs)
    ranks = range(n)
    # Resampling ranks instead of values yields sorted resamples without comparing floats again.
    medians = []
    for _ in range(resamples):
        drawn = sorted(source.choices(ranks, k=n))
        medians.append((ordered[drawn[(n - 1) // 2]] + ordered[drawn[n // 2]]) / 2)
    medians.sort()
    tail = (1 - stats.LEVEL) / 2
    low, high = medians[math.floor(tail * resamples)], medians[resamples - 1 - math.floor(tail * resamples)]
    return Ratio(math.exp(stats.median(logs)), math.exp(low), math.exp(high), n)


def verdict(ratio: Ratio, lower_is_better: bool = False) -> str:
    """GO: the whole interval is better by 1 % or more; NO-GO: worse by 1 % or more; NEUTRAL: within 1 %."""
    if 0 < ratio.pairs < MIN_PAIRS:
        return UNDECIDED
    if ratio.low >= 1 + LIMIT:
        return NO_GO if lower_is_better else GO
    if ratio.high <= 1 - LIMIT:
        return GO if lower_is_better else NO_GO
    if ratio.low > 1 - LIMIT and ratio.high < 1 + LIMIT:
        return NEUTRAL
    return UNDECIDED


def runs_to_decide(ratio: Ratio) -> Optional[int]:
    """How many runs might decide, if the estimate stays the same and the interval shrinks with their square root.

    None: MOST_RUNS would not suffice, because the estimate is at a limit.
    """
    if ratio.pairs == 0:
        return None
    distance = min(abs(ratio.value - (1 - LIMIT)), abs(ratio.value - (1 + LIMIT)))
    reach = max(ratio.high - ratio.value, ratio.value - ratio.low)
    if distance <= 0 or reach > distance * math.sqrt(MOST_RUNS / ratio.pairs):
        return None
    return max(MIN_PAIRS, ratio.pairs + 1, math.ceil(ratio.pairs * (reach / distance) ** 2))


def range_of_counts(a: Sequence[int], b: Sequence[int]) -> Ratio:
    """The ratio of the medians of counts, with the range over all pairs: counts mostly repeat exactly."""
    value = stats.median(b) / stats.median(a)
    return Ratio(value, min(b) / max(a), max(b) / min(a), 0)


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """For ranges only: combines their ends as if these always occurred together."""

    def mean(values: List[float]) -> float:
        return math.exp(sum(math.log(value) for value in values) / len(values))

    return Ratio(mean([r.value for r in ratios]), mean([r.low for r in ratios]), mean([r.high for r in ratios]), 0)
