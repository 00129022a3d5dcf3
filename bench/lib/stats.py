# SPDX-License-Identifier: Apache-2.0
"""Medians and their confidence intervals, without any assumption about the distribution of the samples.

The interval of a median lies between two order statistics. The probability that it contains the true median follows
from the binomial distribution alone (Conover, Practical Nonparametric Statistics, section 3.2), so it is right for
seven runs too, where a bootstrap interval comes out too narrow."""

import math
from typing import NamedTuple, Sequence

LEVEL = 0.95


class Interval(NamedTuple):
    """`coverage` is the real confidence: at least LEVEL, or less when there are too few samples for it (under six)."""

    low: float
    high: float
    coverage: float


class Estimate(NamedTuple):
    value: float
    interval: Interval


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle."""
    if not samples:
        raise ValueError("median of no samples")
    ordered = sorted(samples)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def median_interval(samples: Sequence[float], level: float = LEVEL) -> Interval:
    """The narrowest pair of symmetric order statistics that contains the true median with confidence `level`."""
    if not samples:
        raise ValueError("interval of no samples")
    ordered = sorted(samples)
    n = len(ordered)
    best = Interval(ordered[0], ordered[-1], 0.0 if n == 1 else 1 - 2 * 0.5**n)
    outside = 1  # how many of the 2^n equally likely sign patterns have the median outside the interval on one side
    for k in range(1, n // 2):
        outside += math.comb(n, k)
        coverage = 1 - 2 * outside / 2**n
        if coverage < level:
            break
        best = Interval(ordered[k], ordered[n - 1 - k], coverage)
    return best


def estimate(samples: Sequence[float]) -> Estimate:
    return Estimate(median(samples), median_interval(samples))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The median of ours[i] / theirs[i] with its interval.

    Pairs must come from the same round, so that a temporary slowdown of the machine cancels out.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"cannot pair {len(ours)} samples with {len(theirs)}")
    return estimate([a / b for a, b in zip(ours, theirs)])
