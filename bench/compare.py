# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark workloads on hakmem, the no-op floor and the installed peers, and prints one table."""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import cli
import compare_table
import machine
from allocators import Allocator

TIME_BUDGET = 75.0  # seconds for the default run; no new round starts when it would end later
DEFAULT_RUNS = 7  # the least odd number whose extremes hold the median with 95 % confidence and one to spare
QUICK_RUNS = 3
MIN_RUNS = 3
RUN_TIMEOUT = 120.0


@dataclass(frozen=True)
class Workload:
    name: str
    text: str
    cycles: int
    ws: int
    options: Tuple[str, ...]
    default: bool = True
    # In another order each round: memory that the run before has freed is warm, and a first touch of it costs less.
    shuffled: bool = False

    def arguments(self, quick: bool) -> List[str]:
        cycles = self.cycles // 4 if quick else self.cycles
        return [str(cycles), str(self.ws), *self.options]

    @property
    def threads(self) -> int:
        return 2 if {"exchange", "pure_remote"} & set(self.options) else 1


WORKLOADS = (
    Workload("mixed-400", "16..1,039 B, 400 slots", 10_000_000, 400, ()),
    Workload("mixed-20k", "16..1,039 B, 20,000 slots", 8_000_000, 20_000, ()),
    Workload("mixed-100k", "16..1,039 B, 100,000 slots", 6_000_000, 100_000, ()),
    Workload("mixed-400k", "16..1,039 B, 400,000 slots", 6_000_000, 400_000, ()),
    Workload("small-400", "8..128 B, 400 slots", 10_000_000, 400, ("--workload", "small")),
    Workload("exchange", "2 threads swap 50 % of the freed blocks", 4_000_000, 4000, ("--workload", "exchange")),
    Workload("pure_remote", "one thread allocates, one frees", 1_000_000, 4000, ("--workload", "pure_remote")),
    Workload("large", "32 KiB..1 MiB, 64 slots", 250_000, 64, ("--workload", "large")),
    Workload("growth-20k", "a heap that grows: 20,000 blocks, first touch", 20_000, 20_000,
             ("--workload", "growth"), shuffled=True),
    Workload("growth-100k", "a heap that grows: 100,000 blocks, first touch", 100_000, 100_000,
             ("--workload", "growth"), shuffled=True),
    Workload("growth-400k", "a heap that grows: 400,000 blocks, first touch", 400_000, 400_000,
             ("--workload", "growth"), default=False, shuffled=True),
    Workload("churn", "threads that live for 1,000 cycles", 1_000_000, 400, ("--workload", "churn"), default=False),
    Workload("realloc", "buffers growing to 1 MiB", 100_000, 100, ("--workload", "realloc"), default=False),
)


@dataclass
class Sample:
    round: int
    throughput: float
    peak_kib: int


@dataclass
class Cell:
    """All runs of one workload on one allocator."""

    samples: List[Sample] = field(default_factory=list)
    failure: Optional[str] = None


class IdentityError(Exception):
    """A run used another allocator than it was meant to."""


def run_once(bench: str, arguments: List[str], allocator: Allocator) -> Dict[str, str]:
    """Runs the benchmark once; returns its "key = value" lines. RuntimeError when it failed, IdentityError as said."""
    try:
        done = subprocess.run(
            [bench, *arguments],
            env=allocator.environment(dict(os.environ)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"still running after {RUN_TIMEOUT:.0f} s") from None
    # ld.so only warns when it cannot preload a library, and goes on without it.
    if "cannot be preloaded" in done.stderr:
        raise IdentityError(f"{allocator.name}: {done.stderr.strip().splitlines()[0]}")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    values = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    wrong = allocator.check_identity(values.get("Allocator", ""))
    if wrong:
        raise IdentityError(f"{allocator.name}: {wrong}")
    return values


class Progress:
    """One line on stderr: rewritten in place on a terminal, otherwise one for each round."""

    def __init__(self, prog: str = "compare") -> None:
        self.prog = prog
        self.tty = sys.stderr.isatty()
        self.start = time.monotonic()

    def show(self, round_text: str, detail: str, first: bool) -> None:
        seconds = time.monotonic() - self.start
        if self.tty:
            sys.stderr.write(f"\r\033[K{self.prog}: {round_text}, {seconds:.0f} s: {detail}")
        elif first:
            sys.stderr.write(f"{self.prog}: {round_text}, {seconds:.0f} s\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.tty:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


@dataclass
class Outcome:
    cells: Dict[Tuple[str, str], Cell]
    identities: Dict[str, str]
    compiler: str
    rounds: int
    seconds: float


def measure(bench: str, chosen: List[Allocator], workloads: List[Workload], args: argparse.Namespace) -> Outcome:
    """Runs round after round, each allocator once in each; the order rotates or is drawn: none always follows another."""
    cells = {(w.name, a.name): Cell() for w in workloads for a in chosen}
    identities: Dict[str, str] = {}
    compiler = "unknown"
    progress = Progress()
    longest, done = 0.0, 0
    budget = TIME_BUDGET if args.runs is None and args.workload is None and args.allocator is None else None
    planned = args.runs or (QUICK_RUNS if args.quick else DEFAULT_RUNS)
    for number in range(planned):
        begin = time.monotonic()
        if budget and number >= MIN_RUNS and begin - progress.start + longest > budget:
            break
        for row, workload in enumerate(workloads):
            shift = (number + row) % len(chosen)
            order = chosen[shift:] + chosen[:shift]
            if workload.shuffled:
                random.Random(f"{number} {workload.name}").shuffle(order)
            for place, allocator in enumerate(order):
                cell = cells[workload.name, allocator.name]
                first = row == 0 and place == 0
                progress.show(f"round {number + 1} of {planned}", f"{workload.name} on {allocator.name}", first)
                if cell.failure:
                    continue
                try:
                    values = run_once(bench, workload.arguments(args.quick), allocator)
                    throughput = float(values["Throughput"].split()[0])
                    peak = int(values["Peak RSS"].split()[0])
                except RuntimeError as error:
                    cell.failure = str(error)
                    continue
                finally:
                    progress.clear()
                cell.samples.append(Sample(number, throughput, peak))
                identities[allocator.name] = values["Allocator"]
                compiler = values["Compiler"]
        done = number + 1
        longest = max(longest, time.monotonic() - begin)
    return Outcome(cells, identities, compiler, done, time.monotonic() - progress.start)


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Workload], List[Allocator], List[str]]:
    names = [workload.name for workload in WORKLOADS]
    extra = [workload.name for workload in WORKLOADS if not workload.default]
    parser = cli.Parser("compare", __doc__)
    parser.add_argument("--quick", action="store_true", help=f"smoke test: {QUICK_RUNS} short rounds")
    parser.add_argument("--workload", metavar="NAME,...",
                        help=f"only these, or 'all' ({', '.join(names)}); the default leaves {' and '.join(extra)} out")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000),
                        help=f"rounds (default {DEFAULT_RUNS}, fewer when time is up)")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    chosen, missing = cli.resolve_common_options(parser, args, floor=True)
    if args.workload is None:
        wanted = [name for name in names if name not in extra]
    else:
        wanted = cli.pick(parser, "--workload", args.workload, names)
    workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    args.bench = cli.require(parser, "random_mixed")
    return args, workloads, chosen, missing


def write_json(path: str, facts: Dict[str, str], outcome: Outcome, workloads: List[Workload], summary: Dict,
               missing: List[str], quick: bool) -> None:
    document = {
        "format": 1,
        "machine": facts,
        "compiler": outcome.compiler,
        "seconds": round(outcome.seconds, 1),
        "rounds": outcome.rounds,
        "allocators": outcome.identities,
        "missing": missing,
        "workloads": {
            workload.name: {
                "text": workload.text,
                "arguments": workload.arguments(quick),
                "samples": {
                    allocator: {
                        "failure": cell.failure,
                        "rounds": [sample.round for sample in cell.samples],
                        "ops_per_second": [sample.throughput for sample in cell.samples],
                        "peak_rss_kib": [sample.peak_kib for sample in cell.samples],
                    }
                    for (name, allocator), cell in outcome.cells.items()
                    if name == workload.name
                },
                "summary": summary[workload.name],
            }
            for workload in workloads
        },
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def main(argv: List[str]) -> int:
    args, workloads, chosen, missing = parse(argv)
    facts = machine.describe()
    try:
        outcome = measure(args.bench, chosen, workloads, args)
    except IdentityError as error:
        sys.stderr.write(f"compare: a run did not use the allocator it names: {error}\n")
        return 1
    print(machine.lines(facts))
    print(f"Harness: random_mixed built by {outcome.compiler}; {outcome.rounds} rounds in {outcome.seconds:.0f} s"
          + ("; --quick: too short for claims" if args.quick else ""))
    for allocator in chosen:
        print(f"  {allocator.name:16} {outcome.identities.get(allocator.name, 'no run succeeded')}")
    for line in missing:
        print(f"  missing: {line}")
    print()
    summary = {w.name: compare_table.summarise(w, chosen, outcome.cells) for w in workloads}
    compare_table.write(sys.stdout, workloads, summary)
    if args.json:
        write_json(args.json, facts, outcome, workloads, summary, missing, args.quick)
    failures = [(key, cell.failure) for key, cell in outcome.cells.items() if cell.failure]
    for (workload, allocator), failure in failures:
        sys.stderr.write(f"compare: {workload} on {allocator} failed: {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\ncompare: interrupted\n")
        sys.exit(130)
