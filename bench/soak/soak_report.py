# SPDX-License-Identifier: Apache-2.0
"""What analyze_soak determines about each allocator, the verdicts, and their tables.

Every table in the terminal, in Markdown, in the page and in the summary file comes from the lists of columns below.
"""

import math
from statistics import fmean, median
from typing import Callable, NamedTuple, Optional

from bench.soak import soak_stats
from bench.soak.soak_data import CALLS, Bucket, Run
from bench.soak.soak_stats import Slope

HOUR = 3600.0
PAGE_KIB = 4.0

# A certain slope may still be negligible: a page per hour, or a thousandth of RSS over the whole run.
NEGLIGIBLE_KIB_PER_HOUR = PAGE_KIB
NEGLIGIBLE_SHARE = 0.001

STEADY, DRIFTING, NEGLIGIBLE, UNCLEAR = "steady", "drifting", "steady (negligible)", "unclear"
MET, NOT_MET, REFERENCE = "met", "not met", "reference"


class Soak(NamedTuple):
    """One allocator's run: all of it for the plots, and the part after the warm-up for the statistics."""

    name: str
    whole: Run
    run: Run
    buckets: Optional[list[Bucket]]


class Finding(NamedTuple):
    name: str
    epochs: int
    hours: float
    rss: Slope
    private: Slope
    rss_median: float
    rss_first: float
    rss_last: float
    strict: str
    practical: str
    cv: float
    cv_ratio: Optional[float]
    cv_verdict: Optional[str]
    ops_mean: float
    ops_median: float
    ops_p1: float
    ops_p01: float
    latency: Optional[tuple[float, float, float]]
    latency_max: float
    calls_per_op: Optional[float]
    faults_per_op: Optional[float]


def slope_per_hour(run: Run, column: str) -> Slope:
    return soak_stats.theil_sen([t / HOUR for t in run.columns["time_s"]], run.columns[column])


def drift_verdicts(slope: Slope, hours: float, level: float) -> tuple[str, str]:
    """The strict verdict, and the practical one. `level` is the median of what drifts.

    A run that rises all the time by smaller and smaller steps has few independent epochs, so the corrected interval
    contains 0. That must not count as proof of no drift: the verdict is `unclear` if the naive interval does not
    contain 0."""
    small = abs(slope.value) < NEGLIGIBLE_KIB_PER_HOUR or abs(slope.value) * hours < NEGLIGIBLE_SHARE * level
    if slope.holds_zero():
        return STEADY, STEADY if small or slope.naive_holds_zero() else UNCLEAR
    return DRIFTING, NEGLIGIBLE if small else DRIFTING


def calls_of_epochs(run: Run) -> Optional[list[float]]:
    """System calls for memory in each epoch, or None where they could not be counted."""
    if any(value < 0 for name in CALLS for value in run.columns[name]):
        return None
    return [sum(values) for values in zip(*(run.columns[name] for name in CALLS))]


def examine(soak: Soak) -> Finding:
    """Everything except the comparison with the reference."""
    columns = soak.run.columns
    count = len(soak.run)
    hours = (columns["time_s"][-1] - columns["time_s"][0]) / HOUR
    rss, private = slope_per_hour(soak.run, "rss_kib"), slope_per_hour(soak.run, "private_dirty_kib")
    tenth = max(count // 10, 1)
    level = float(median(columns["rss_kib"]))
    strict, practical = drift_verdicts(rss, hours, level)
    throughput = sorted(columns["ops_per_s"])
    calls, ops = calls_of_epochs(soak.run), sum(columns["ops"])
    latency = None
    if soak.buckets:
        p50, p99, p999 = (soak_stats.histogram_percentile(soak.buckets, p) for p in (50, 99, 99.9))
        latency = (p50, p99, p999)
    return Finding(
        name=soak.name,
        epochs=count,
        hours=hours,
        rss=rss,
        private=private,
        rss_median=level,
        rss_first=float(median(columns["rss_kib"][:tenth])),
        rss_last=float(median(columns["rss_kib"][-tenth:])),
        strict=strict,
        practical=practical,
        cv=soak_stats.variation(throughput),
        cv_ratio=None,
        cv_verdict=None,
        ops_mean=fmean(throughput),
        ops_median=float(median(throughput)),
        ops_p1=soak_stats.percentile(throughput, 1),
        ops_p01=soak_stats.percentile(throughput, 0.1),
        latency=latency,
        latency_max=max(columns["max_ns"]),
        calls_per_op=sum(calls) / ops if calls is not None and ops else None,
        faults_per_op=(sum(columns["minor_faults"]) + sum(columns["major_faults"])) / ops if ops else None,
    )


def examine_all(soaks: list[Soak], reference: Optional[str]) -> list[Finding]:
    findings = [examine(soak) for soak in soaks]
    limit = next((finding.cv for finding in findings if finding.name == reference), None)
    if limit is None:
        return findings
    return [
        finding._replace(
            cv_ratio=finding.cv / limit if limit else None,
            cv_verdict=REFERENCE if finding.name == reference else MET if finding.cv <= limit else NOT_MET,
        )
        for finding in findings
    ]


# ---- Tables ----------------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    heading: str
    cell: Callable[[Finding], str]


class Table(NamedTuple):
    title: str
    note: str
    columns: list[Column]

    def header(self) -> list[str]:
        return ["allocator"] + [column.heading for column in self.columns]

    def rows(self, findings: list[Finding]) -> list[list[str]]:
        return [[finding.name] + [column.cell(finding) for column in self.columns] for finding in findings]


def number(value: Optional[float], digits: int = 1) -> str:
    if value is None:
        return "-"
    text = f"{value:,.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text


def significant(value: Optional[float]) -> str:
    """Three digits, for numbers of unknown size."""
    if value is None:
        return "-"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.2e}" if abs(value) < 0.001 else f"{value:,.{max(2 - math.floor(math.log10(abs(value))), 0)}f}"


def interval(slope: Slope) -> str:
    return f"{number(slope.low)} .. {number(slope.high)}"


def latency_cell(place: int) -> Callable[[Finding], str]:
    return lambda f: number(f.latency[place], 0) if f.latency else "-"


TABLES = [
    Table(
        "Verdicts",
        "Strict: is 0 within the 95 % interval of the Theil-Sen slope of RSS? Practical: a slope under a page (4 KiB) per "
        "hour, or under 0.1 % of RSS over the run, is negligible although certain; unclear is a slope that only the "
        "correction for autocorrelation keeps from being certain: the run was too short to tell. CV is the standard deviation of the "
        "epochs' throughput over its mean; it is met when no larger than the reference's in the same run.",
        [
            Column("RSS KiB/h", lambda f: number(f.rss.value)),
            Column("95 % interval", lambda f: interval(f.rss)),
            Column("strict", lambda f: f.strict),
            Column("practical", lambda f: f.practical),
            Column("CV %", lambda f: number(100 * f.cv, 2)),
            Column("to reference", lambda f: number(f.cv_ratio, 2)),
            Column("CV no worse", lambda f: f.cv_verdict or "-"),
        ],
    ),
    Table(
        "Memory",
        "First and last: medians of the first and of the last tenth of the epochs. Independent: how many independent epochs "
        "the series is worth, given its autocorrelation; the interval follows from it. Naive: that of RSS if all were.",
        [
            Column("epochs", lambda f: str(f.epochs)),
            Column("independent", lambda f: number(f.rss.effective, 0)),
            Column("RSS KiB median", lambda f: number(f.rss_median, 0)),
            Column("first", lambda f: number(f.rss_first, 0)),
            Column("last", lambda f: number(f.rss_last, 0)),
            Column("naive interval", lambda f: f"{number(f.rss.naive_low)} .. {number(f.rss.naive_high)}"),
            Column("private dirty KiB/h", lambda f: number(f.private.value)),
            Column("95 % interval", lambda f: interval(f.private)),
        ],
    ),
    Table(
        "Throughput, Mops/s",
        "p1 and p0.1 are the slow epochs: 99 % and 99.9 % of the epochs are faster. With fewer than 1,000 epochs p0.1 lies "
        "between the two slowest. No latency percentile can be read from them: a call of 1 ms hardly shows in an epoch.",
        [
            Column("mean", lambda f: number(f.ops_mean / 1e6, 3)),
            Column("median", lambda f: number(f.ops_median / 1e6, 3)),
            Column("p1", lambda f: number(f.ops_p1 / 1e6, 3)),
            Column("p0.1", lambda f: number(f.ops_p01 / 1e6, 3)),
            Column("p1/median", lambda f: number(f.ops_p1 / f.ops_median, 3) if f.ops_median else "-"),
        ],
    ),
    Table(
        "Latency of a call, ns, and cost of an op",
        "Percentiles of the measured calls, from the merged histograms; max is the longest of them. They are a "
        "sample: a rare stall that fell on another call is not among them. The system calls are those for memory.",
        [
            Column("p50", latency_cell(0)),
            Column("p99", latency_cell(1)),
            Column("p99.9", latency_cell(2)),
            Column("max", lambda f: number(f.latency_max, 0)),
            Column("syscalls/op", lambda f: significant(f.calls_per_op)),
            Column("page faults/op", lambda f: significant(f.faults_per_op)),
        ],
    ),
]


def summary_rows(findings: list[Finding]) -> tuple[list[str], list[list[object]]]:
    """For the CSV: one row per allocator, plain numbers, nothing for what is not known."""
    fields: list[tuple[str, Callable[[Finding], object]]] = [
        ("allocator", lambda f: f.name),
        ("epochs", lambda f: f.epochs),
        ("hours", lambda f: round(f.hours, 6)),
        ("rss_slope_kib_per_hour", lambda f: round(f.rss.value, 6)),
        ("rss_slope_low", lambda f: round(f.rss.low, 6)),
        ("rss_slope_high", lambda f: round(f.rss.high, 6)),
        ("rss_effective_epochs", lambda f: round(f.rss.effective, 1)),
        ("rss_slope_naive_low", lambda f: round(f.rss.naive_low, 6)),
        ("rss_slope_naive_high", lambda f: round(f.rss.naive_high, 6)),
        ("rss_strict", lambda f: f.strict),
        ("rss_practical", lambda f: f.practical),
        ("private_slope_kib_per_hour", lambda f: round(f.private.value, 6)),
        ("private_slope_low", lambda f: round(f.private.low, 6)),
        ("private_slope_high", lambda f: round(f.private.high, 6)),
        ("rss_median_kib", lambda f: f.rss_median),
        ("rss_first_kib", lambda f: f.rss_first),
        ("rss_last_kib", lambda f: f.rss_last),
        ("cv", lambda f: round(f.cv, 8)),
        ("cv_ratio", lambda f: None if f.cv_ratio is None else round(f.cv_ratio, 6)),
        ("cv_verdict", lambda f: f.cv_verdict),
        ("ops_per_s_mean", lambda f: round(f.ops_mean, 3)),
        ("ops_per_s_median", lambda f: round(f.ops_median, 3)),
        ("ops_per_s_p1", lambda f: round(f.ops_p1, 3)),
        ("ops_per_s_p0.1", lambda f: round(f.ops_p01, 3)),
        ("latency_p50_ns", lambda f: f.latency and round(f.latency[0], 3)),
        ("latency_p99_ns", lambda f: f.latency and round(f.latency[1], 3)),
        ("latency_p999_ns", lambda f: f.latency and round(f.latency[2], 3)),
        ("latency_max_ns", lambda f: f.latency_max),
        ("syscalls_per_op", lambda f: f.calls_per_op),
        ("faults_per_op", lambda f: f.faults_per_op),
    ]
    return [name for name, _ in fields], [[cell(f) for _, cell in fields] for f in findings]


def scorecard(findings: list[Finding], reference: Optional[str]) -> tuple[list[str], list[list[str]]]:
    """The two requirements on a soak run, one row for each allocator and requirement."""
    rows = []
    for f in findings:
        slope = f"{number(f.rss.value)} KiB/h, {interval(f.rss)}"
        practical = "" if f.practical == f.strict else f", {f.practical}"
        rows.append([f"{f.name}: RSS slope's interval contains 0", slope, f"{f.strict}{practical}"])
        if f.cv_verdict in (MET, NOT_MET):
            values = f"{number(100 * f.cv, 2)} %, {number(f.cv_ratio, 2)} of it"
            rows.append([f"{f.name}: CV no worse than {reference}'s", values, f.cv_verdict])
    return ["demand", "measured", "verdict"], rows
