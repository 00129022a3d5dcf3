# SPDX-License-Identifier: Apache-2.0
"""Tests an A/B comparison itself: two identical arms must be NEUTRAL, and a planted slowdown of 3 % must be NO-GO.

The slowdown is random_mixed --drag: rows of multiplications that wait for each other, between slices of the loop. How
many make 3 % is measured first, for each workload by itself.
"""

import dataclasses
import os
import sys
from typing import Callable, Dict, List, Tuple

from bench.ab import ab_note
from bench.ab import ab_stats
from bench.ab.ab_arms import Arm, with_extra
from bench.ab.ab_run import METRICS, Comparison, Failure
from bench.lib import stats
from bench.lib.runs import IdentityError, run_once
from bench.workloads.table import Workload

SLOWDOWN = 0.03
WORKLOADS = ("mixed-400", "mixed-20k", "small-400")
MAX_RUNS = 100
CALIBRATION_DRAG = 10_000  # about as slow as the loop itself, so its cost is measured well
CALIBRATION_RUNS = 7
THROUGHPUT = [metric for metric in METRICS if metric.name == "throughput"]


def calibrate(bench: str, arm: Arm, workload: Workload, quick: bool) -> int:
    """The --drag that reduces the throughput by 3 %."""
    seconds: Dict[int, List[float]] = {0: [], CALIBRATION_DRAG: []}
    for _ in range(CALIBRATION_RUNS):
        for drag, runs in seconds.items():
            values = run_once(bench, [*workload.arguments(quick), "--drag", str(drag)], arm)
            runs.append(1 / float(values["Throughput"].split()[0]))
    plain, dragged = (stats.median(runs) for runs in seconds.values())
    if dragged <= plain:
        raise Failure(f"{workload.name}: the planted slowdown does not slow down")
    return max(1, round(plain * (1 / (1 - SLOWDOWN) - 1) * CALIBRATION_DRAG / (dragged - plain)))


def run(standard: Callable[[str], Arm], bench: str, counter: str, workloads: List[Workload], runs: int, max_runs: int,
        quick: bool, scratch: str) -> int:
    """0: both verdicts are right; 1: one is not. `standard` returns a copy of the library for a letter."""
    a, b = standard("a"), standard("b")

    def verdict(first: Arm, second: Arm, chosen: List[Workload]) -> str:
        comparison = Comparison(bench, counter, (first, second), chosen, THROUGHPUT, quick, scratch)
        comparison.run(runs, max_runs)
        ab_note.write_table(sys.stdout, comparison)
        sys.stdout.flush()
        return comparison.overall(THROUGHPUT[0]).verdict

    print("Self-check 1 of 2: two copies of the same library; NEUTRAL is right\n")
    same = verdict(with_extra(a, "a", "standard"), with_extra(b, "b", "standard, a copy"), workloads)
    print(f"\nSelf-check 2 of 2: the same two copies, B slower by a planted {SLOWDOWN:.0%}; NO-GO is right")
    drags: List[Tuple[Workload, int]] = []
    for workload in workloads:
        try:
            drags.append((workload, calibrate(bench, a, workload, quick)))
        except (RuntimeError, IdentityError) as error:
            raise Failure(f"{workload.name}: calibration: {error}") from None
    print("  --drag of B: " + ", ".join(f"{workload.name} {drag}" for workload, drag in drags) + "\n")
    dragged = [dataclasses.replace(w, extra=(*w.extra, "--drag", str(drag))) for w, drag in drags]
    # The drag differs between workloads, so it is given with the workload. A overrides it, because the last one given
    # counts.
    slow = verdict(with_extra(a, "a", "standard", ("--drag", "0")), with_extra(b, "b", "standard with --drag"), dragged)

    failures = []
    for number, got, wanted in ((1, same, ab_stats.NEUTRAL), (2, slow, ab_stats.NO_GO)):
        if got != wanted:
            noisy = got == ab_stats.UNDECIDED
            blame = f"the machine is too noisy for {max_runs} runs" if noisy else "the tool is wrong"
            failures.append(f"check {number} gave {got}, not {wanted}: {blame}")
    print("\nSelf-check: " + ("passed" if not failures else "FAILED: " + "; ".join(failures)))
    return 1 if failures else 0
