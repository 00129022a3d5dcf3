# SPDX-License-Identifier: Apache-2.0
"""What hakmem wants to reach, and how each target is computed from a result."""

import math
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from bench.scorecard.results import Result

Golden = Dict[str, Dict[str, List[int]]]


class Value(NamedTuple):
    """`low` and `high`: the interval, or the value itself when it is exact."""

    value: float
    low: float
    high: float


class Target(NamedTuple):
    """Computed from the kept results, or from the golden table. `least`: the value must not be below `wanted`."""

    text: str
    wanted: float
    least: bool
    of_result: Optional[Callable[[Result], Optional[Value]]] = None
    of_golden: Optional[Callable[[Golden], Optional[Value]]] = None


def exact(value: float) -> Value:
    return Value(value, value, value)


def verdict(target: Target, value: Value) -> str:
    """`within`: the median meets the target, or does not, but the interval has both."""
    low, high = (value.low, value.high) if target.least else (-value.high, -value.low)
    wanted = target.wanted if target.least else -target.wanted
    if low >= wanted:
        return "met"
    return "not met" if high < wanted else "within"


def _geometric_mean(numbers: List[float]) -> float:
    return math.exp(sum(math.log(number) for number in numbers) / len(numbers))


def _cells(result: Result, workload: str) -> Dict[str, Dict]:
    return {name: cell for name, cell in result.rows.get(workload, {}).items() if "failure" not in cell}


def ratio_to_best(workload: str, allocator: str) -> Callable[[Result], Optional[Value]]:
    def compute(result: Result) -> Optional[Value]:
        cell = _cells(result, workload).get(allocator)
        if cell is None or cell["ratio"] is None:
            return None
        return Value(cell["ratio"], *cell["ratio_interval"])

    return compute


def mean_ratio_to_best(allocator: str) -> Callable[[Result], Optional[Value]]:
    def compute(result: Result) -> Optional[Value]:
        ratios = [ratio_to_best(workload, allocator)(result) for workload in result.rows]
        found = [ratio.value for ratio in ratios if ratio is not None]
        return exact(_geometric_mean(found)) if found else None

    return compute


def standard_to_fast(result: Result) -> Optional[Value]:
    ratios = []
    for workload in result.rows:
        cells = _cells(result, workload)
        if {"hakmem-standard", "hakmem-fast"} <= set(cells):
            ratios.append(cells["hakmem-standard"]["ops_per_second"] / cells["hakmem-fast"]["ops_per_second"])
    return exact(_geometric_mean(ratios)) if ratios else None


def memory_to_leanest(allocator: str) -> Callable[[Result], Optional[Value]]:
    """Peak RSS over the leanest peer's of each row. The no-op floor is no allocator."""

    def compute(result: Result) -> Optional[Value]:
        ratios = []
        for workload in result.rows:
            cells = _cells(result, workload)
            peers = [cell["peak_rss_kib"] for name, cell in cells.items()
                     if not name.startswith("hakmem") and name != "noop"]
            if allocator in cells and peers:
                ratios.append(cells[allocator]["peak_rss_kib"] / min(peers))
        return exact(_geometric_mean(ratios)) if ratios else None

    return compute


def pair_instructions(profile: str) -> Callable[[Golden], Optional[Value]]:
    def compute(golden: Golden) -> Optional[Value]:
        rows = golden.get(f"x86-64, gcc 12, {profile}, shared")
        return exact(rows["malloc"][0] + rows["free"][0]) if rows else None

    return compute


def fast_path_locks(golden: Golden) -> Optional[Value]:
    """Calls and atomic read-modify-write instructions of malloc and free, in FAST and STANDARD, in every build."""
    rows = [rows[call] for key, rows in golden.items() if ", fast," in key or ", standard," in key
            for call in ("malloc", "free")]
    return exact(max(row[4] + row[5] for row in rows)) if rows else None


RATIOS: Tuple[Tuple[str, float], ...] = (
    ("mixed-400", 1.07), ("mixed-20k", 1.06), ("mixed-100k", 1.15), ("mixed-400k", 1.40), ("small-400", 1.03),
    ("exchange", 1.05), ("pure_remote", 1.0), ("large", 1.0), ("growth-20k", 1.0), ("growth-100k", 1.0),
)

TARGETS: Tuple[Target, ...] = (
    Target("instructions of malloc(64) and free, FAST", 29, False, of_golden=pair_instructions("fast")),
    Target("instructions of malloc(64) and free, STANDARD", 37, False, of_golden=pair_instructions("standard")),
    Target("calls and atomic read-modify-writes of either", 0, False, of_golden=fast_path_locks),
    *(Target(f"{workload}: FAST to the best peer of the row", wanted, True, ratio_to_best(workload, "hakmem-fast"))
      for workload, wanted in RATIOS),
    Target("all rows, geometric mean: FAST to the best peer of each", 1.0, True, mean_ratio_to_best("hakmem-fast")),
    Target("all rows, geometric mean: STANDARD to FAST", 0.98, True, standard_to_fast),
    Target("peak RSS, geometric mean: STANDARD to the leanest peer of each row", 1.0, False,
           memory_to_leanest("hakmem-standard")),
)
