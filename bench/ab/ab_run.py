# SPDX-License-Identifier: Apache-2.0
"""Runs the arms of an A/B comparison in turn, and summarises their samples."""

import os
import subprocess
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Tuple

from bench.ab import ab_stats
from bench.ab.ab_arms import Arm
from bench.lib import stats
from bench.lib.runs import RUN_TIMEOUT, IdentityError, Progress, run_once
from bench.workloads.table import Workload

CALL_RUNS = 3  # counts mostly repeat exactly; three runs show if they do not


@dataclass(frozen=True)
class Metric:
    name: str
    title: str
    unit: str
    scale: float
    lower_is_better: bool
    timed: bool  # its samples come from the timed runs

    def text(self, value: float) -> str:
        return f"{value / self.scale:.{2 if self.timed else 0}f}"


METRICS = (
    Metric("throughput", "Throughput", "Mops/s", 1e6, lower_is_better=False, timed=True),
    Metric("rss", "Peak RSS", "MiB", 1024, lower_is_better=True, timed=True),
    Metric("calls", "Memory system calls", "calls", 1, lower_is_better=True, timed=False),
)


class Failure(Exception):
    """A run failed or used another allocator than intended, which ends the comparison."""


@dataclass
class Samples:
    """One workload's runs on both arms; index i of both lists is the pair of round i."""

    workload: Workload
    values: Dict[str, Tuple[List[float], List[float]]] = field(
        default_factory=lambda: {metric.name: ([], []) for metric in METRICS})
    kinds: Tuple[List[Dict[str, int]], List[Dict[str, int]]] = field(default_factory=lambda: ([], []))
    counters: List[Dict[str, str]] = field(default_factory=lambda: [{}, {}])  # from one run on each arm, --counters


@dataclass(frozen=True)
class Row:
    """The summary of one workload, or of all (`workload` and the arms' own values are None)."""

    workload: Optional[Workload]
    values: Optional[Tuple[float, float, float, float]]  # mean and median of A, mean and median of B
    ratio: ab_stats.Ratio
    verdict: str


class Comparison:
    """The runs so far and how to make more."""

    def __init__(self, bench: str, counter: str, arms: Tuple[Arm, Arm], workloads: List[Workload],
                 metrics: List[Metric], quick: bool, scratch: str) -> None:
        self.bench, self.counter, self.arms, self.metrics = bench, counter, arms, metrics
        self.quick, self.scratch = quick, scratch
        self.counters: List[str] = []  # the statistics that one run of each arm prints
        self.samples = [Samples(workload) for workload in workloads]
        self.identities = ["", ""]
        self.compiler = "unknown"
        self.rounds = 0
        self.looks: List[int] = []

    @property
    def timed(self) -> List[Metric]:
        return [metric for metric in self.metrics if metric.timed]

    def _each_pair(self, number: int, run: Callable[[Samples, int], None], text: str, progress: Progress) -> None:
        """One round: both arms on every workload, one right after the other; every other time B goes first."""
        for row, samples in enumerate(self.samples):
            order = (0, 1) if (number + row) % 2 == 0 else (1, 0)
            for arm in order:
                where = f"{samples.workload.name} on {'AB'[arm]}"
                progress.show(text, where, row == 0 and arm == order[0])
                try:
                    run(samples, arm)
                except IdentityError as error:
                    raise Failure(f"{where}: a run did not use the allocator it names: {error}") from None
                except RuntimeError as error:
                    raise Failure(f"{where}: {error}") from None
                finally:
                    progress.clear()

    def run_block(self, runs: int, progress: Progress) -> None:
        """Makes `runs` more rounds of timed runs. The intervals are checked after them."""
        for number in range(self.rounds, self.rounds + runs):
            self._each_pair(number, self._timed_run, f"round {number + 1} of {self.rounds + runs}", progress)
        self.rounds += runs
        self.looks.append(self.rounds)

    def _timed_run(self, samples: Samples, arm: int) -> None:
        values = run_once(self._program(samples), self._arguments(samples, arm), self.arms[arm])
        samples.values["throughput"][arm].append(float(values["Throughput"].split()[0]))
        samples.values["rss"][arm].append(float(values["Peak RSS"].split()[0]))
        self._note_identity(arm, values)

    def _note_identity(self, arm: int, values: Dict[str, str]) -> None:
        self.identities[arm] = values["Allocator"].rsplit(" (", 1)[0]
        self.compiler = values["Compiler"]

    def _program(self, samples: Samples) -> str:
        """The programs of the workloads are in one folder."""
        return os.path.join(os.path.dirname(self.bench), os.path.basename(samples.workload.program))

    def _arguments(self, samples: Samples, arm: int) -> List[str]:
        return samples.workload.arguments(self.quick) + list(self.arms[arm].extra)

    def read_counters(self, progress: Progress) -> None:
        """One run of each arm on each workload that prints hakmem's statistics as it ends."""
        self._each_pair(0, self._counter_run, "counters", progress)

    def _counter_run(self, samples: Samples, arm: int) -> None:
        this = self.arms[arm]
        env = dict(this.environment(dict(os.environ)), HAKMEM_STATS_AT_EXIT="1")
        try:
            done = subprocess.run([self._program(samples), *self._arguments(samples, arm)], env=env, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=RUN_TIMEOUT, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            raise RuntimeError(str(error)) from None
        found = dict(line[len("hakmem: "):].split("=", 1) for line in done.stderr.splitlines()
                     if line.startswith("hakmem: ") and "=" in line)
        # Other allocators, and builds with fixed settings, print none.
        samples.counters[arm] = {name: found.get(name, "-") for name in self.counters}

    def count_calls(self, progress: Progress) -> None:
        """Counts in separate runs, because the tracer slows them down."""
        for number in range(CALL_RUNS):
            self._each_pair(number, self._traced_run, f"system calls, round {number + 1} of {CALL_RUNS}", progress)

    def _traced_run(self, samples: Samples, arm: int) -> None:
        report = os.path.join(self.scratch, "calls")
        this = self.arms[arm]
        # count_calls itself runs on the C library, and preloads the library into the harness.
        env = {key: value for key, value in this.environment(dict(os.environ)).items() if key != "LD_PRELOAD"}
        command = [self.counter, report, this.path or "-", self._program(samples), *self._arguments(samples, arm)]
        try:
            done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=RUN_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"still running after {RUN_TIMEOUT:.0f} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            hint = " (--metric throughput,rss needs no tracing)" if last.startswith("count_calls: ") else ""
            raise RuntimeError(f"exit status {done.returncode}: {last}{hint}")
        values = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
        wrong = this.check_identity(values.get("Allocator", ""))
        if wrong:
            raise IdentityError(wrong)
        self._note_identity(arm, values)
        with open(report, encoding="ascii") as file:
            counts = {kind: int(count) for kind, count in (line.split() for line in file)}
        samples.kinds[arm].append(counts)
        samples.values["calls"][arm].append(sum(counts.values()))

    def summary(self, metric: Metric) -> List[Row]:
        """A row for each workload, then one for all of them."""
        rows, series = [], []
        for samples in self.samples:
            a, b = samples.values[metric.name]
            if metric.timed:
                series.append(ab_stats.log_ratios(a, b))
                ratio = ab_stats.bootstrap(series[-1])
            else:
                ratio = ab_stats.range_of_counts(a, b)
            values = (sum(a) / len(a), stats.median(a), sum(b) / len(b), stats.median(b))
            rows.append(Row(samples.workload, values, ratio, ab_stats.verdict(ratio, metric.lower_is_better)))
        if metric.timed:
            whole = ab_stats.bootstrap(ab_stats.mean_by_round(series))
        else:
            whole = ab_stats.geometric_mean([row.ratio for row in rows])
        return rows + [Row(None, None, whole, ab_stats.verdict(whole, metric.lower_is_better))]

    def overall(self, metric: Metric) -> Row:
        return self.summary(metric)[-1]

    def run(self, runs: int, max_runs: int) -> None:
        """The system calls, then timed runs in blocks until every overall verdict is one, or there are max_runs."""
        progress = Progress("ab")
        if self.counters:
            self.read_counters(progress)
        # First, so that a machine where tracing is forbidden is noticed at once.
        if len(self.timed) < len(self.metrics):
            self.count_calls(progress)
        if self.timed:
            self.run_block(min(runs, max_runs), progress)
            while self.rounds < max_runs and any(self.overall(m).verdict == ab_stats.UNDECIDED for m in self.timed):
                self.run_block(min(runs, max_runs - self.rounds), progress)
