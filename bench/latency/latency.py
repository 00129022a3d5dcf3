# SPDX-License-Identifier: Apache-2.0
"""Measures how long single calls take on hakmem and the installed peers, alone and while another thread trims, forks,
frees much or ends threads, and prints one table."""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from bench.lib import cli
from bench.lib import machine
from bench.lib import stats
from bench.lib.allocators import Allocator
from bench.lib.runs import IdentityError, Progress, run_once

KINDS = ("clock", "malloc-small", "malloc-medium", "malloc-large", "free-small", "free-medium", "free-large",
         "free-remote", "realloc", "calloc", "aligned")
BESIDE = {
    "none": "nothing else",
    "trim": "another thread trims, each 10 ms",
    "fork": "another thread forks, each 20 ms",
    "free": "another thread touches and frees much",
    "threads": "another thread starts threads that allocate and end",
}
POINTS = ("p50", "p99", "p99.9", "p99.99", "max")
DEFAULT_RUNS, QUICK_RUNS = 10, 2
DEFAULT_CALLS, QUICK_CALLS = 200_000, 10_000
FREE_MIB = 2048
# Of the memory that is available, how much --beside free may take.
FREE_SHARE = 4


@dataclass
class Cell:
    """All runs of one allocator beside one kind of work: by kind of call, the points of each run."""

    points: Dict[str, List[List[int]]] = field(default_factory=dict)
    failure: Optional[str] = None
    skipped: Optional[str] = None


Cells = Dict[Tuple[str, str], Cell]


def _number_in(path: str, key: str = "") -> Optional[int]:
    """The number behind `key` in a file of the kernel; None if there is none, which includes "max"."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                words = line[len(key):].split()
                if line.startswith(key) and words and words[0].isdigit():
                    return int(words[0])
    except OSError:
        pass
    return None


def free_mib(wanted: int) -> int:
    """How much may be touched and freed at a time: a quarter of the memory of the machine or control group, at most
    what is wanted."""
    available = (_number_in("/proc/meminfo", "MemAvailable:") or 0) * 1024
    group = "/sys/fs/cgroup/memory."
    limit, used = _number_in(group + "max"), _number_in(group + "current")
    if limit is not None and used is not None:
        available = min(available, max(0, limit - used))
    return max(1, min(wanted, available // FREE_SHARE >> 20))


def measure(worker: str, chosen: List[Allocator], args: argparse.Namespace) -> Tuple[Cells, Dict[str, str]]:
    """Round after round, each allocator in a process of its own, in an order that rotates."""
    cells: Cells = {(beside, a.name): Cell() for beside in args.besides for a in chosen}
    identities: Dict[str, str] = {}
    progress = Progress("latency")
    for number in range(args.runs):
        for row, beside in enumerate(args.besides):
            shift = (number + row) % len(chosen)
            for place, allocator in enumerate(chosen[shift:] + chosen[:shift]):
                cell = cells[beside, allocator.name]
                progress.show(f"round {number + 1} of {args.runs}", f"{allocator.name} beside {beside}",
                              row == 0 and place == 0)
                if cell.failure or cell.skipped:
                    continue
                try:
                    values = run_once(worker, ["--calls", str(args.calls), "--beside", beside, "--free-mib",
                                               str(args.free_mib), "--seed", str(number + 1)], allocator)
                except RuntimeError as error:
                    cell.failure = str(error)
                    continue
                finally:
                    progress.clear()
                identities[allocator.name] = values["Allocator"]
                if "Skipped" in values:
                    cell.skipped = values["Skipped"]
                    continue
                for kind in KINDS:
                    cell.points.setdefault(kind, []).append([int(word) for word in values[kind].split()[1:]])
    return cells, identities


def summarise(cells: Cells, besides: List[str], chosen: List[Allocator], kinds: List[str]) -> Dict:
    """By beside and kind: the medians over the runs of each point, and the maximum's ratio to the best peer's."""
    summary: Dict[str, Dict[str, Dict]] = {}
    for beside in besides:
        for kind in kinds:
            rows = {}
            for allocator in chosen:
                runs = cells[beside, allocator.name].points.get(kind)
                if runs:
                    rows[allocator.name] = {point: stats.median([run[i] for run in runs])
                                            for i, point in enumerate(POINTS)}
            # The clock is the same on all allocators, so none of them is the best.
            peers = [] if kind == "clock" else [rows[a.name]["max"] for a in chosen if a.is_peer and a.name in rows]
            for row in rows.values():
                row["ratio"] = row["max"] / min(peers) if peers and min(peers) > 0 else None
            summary.setdefault(beside, {})[kind] = rows
    return summary


def write_table(summary: Dict, chosen: List[Allocator], cells: Cells) -> None:
    form = "{:13}  {:16}" + "  {:>9}" * len(POINTS) + "  {:>8}"
    for beside, kinds in summary.items():
        print(f"\nBeside: {BESIDE[beside]}. Nanoseconds.")
        print(form.format("call", "allocator", *POINTS, "max/best"))
        for kind, rows in kinds.items():
            title = kind
            for allocator in chosen:
                cell = cells[beside, allocator.name]
                row = rows.get(allocator.name)
                if row is None:
                    # One line for the allocator, not one for each kind of call.
                    if kind == next(iter(kinds)):
                        print(f"{title:13}  {allocator.name:16}  {'FAILED' if cell.failure else cell.skipped}")
                        title = ""
                    continue
                ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
                print(form.format(title, allocator.name, *(f"{row[point]:.0f}" for point in POINTS), ratio))
                title = ""


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Allocator], List[str], str]:
    parser = cli.Parser("latency", __doc__)
    parser.add_argument("--beside", metavar="NAME,...", default="all",
                        help=f"what another thread does meanwhile: only these of {', '.join(BESIDE)}")
    parser.add_argument("--kind", metavar="NAME,...", default="all", help=f"show only these of {', '.join(KINDS)}")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000), help=f"rounds (default {DEFAULT_RUNS})")
    parser.add_argument("--calls", metavar="N", type=cli.whole_number(100, 1_000_000_000),
                        help=f"measured calls of each kind in a run (default {DEFAULT_CALLS}); of large blocks a tenth")
    parser.add_argument("--free-mib", metavar="N", type=cli.whole_number(1, 1 << 20), default=FREE_MIB,
                        help=f"how much 'free' frees at a time (default {FREE_MIB}), bounded by the machine's memory")
    parser.add_argument("--quick", action="store_true", help=f"smoke test: {QUICK_RUNS} short rounds")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    args.besides = cli.pick(parser, "--beside", args.beside, list(BESIDE))
    args.kinds = cli.pick(parser, "--kind", args.kind, list(KINDS))
    args.runs = args.runs or (QUICK_RUNS if args.quick else DEFAULT_RUNS)
    args.calls = args.calls or (QUICK_CALLS if args.quick else DEFAULT_CALLS)
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    args.free_wanted, args.free_mib = args.free_mib, free_mib(args.free_mib)
    return args, chosen, missing, cli.require(parser, "latency/latency_worker")


def main(argv: List[str]) -> int:
    args, chosen, missing, worker = parse(argv)
    facts = machine.describe()
    begin = time.monotonic()
    try:
        cells, identities = measure(worker, chosen, args)
    except IdentityError as error:
        sys.stderr.write(f"latency: a run did not use the allocator it names: {error}\n")
        return 1
    seconds = time.monotonic() - begin
    print(machine.lines(facts))
    print(f"Harness: {args.runs} rounds of {args.calls} calls of each kind (of large blocks a tenth) in {seconds:.0f} s"
          + ("; --quick: too short for claims" if args.quick else ""))
    if "free" in args.besides:
        print(f"  'free' frees {args.free_mib} MiB at a time" + (
            f", not {args.free_wanted}: a quarter of the memory that is available"
            if args.free_mib < args.free_wanted else ""))
    for allocator in chosen:
        print(f"  {allocator.name:16} {identities.get(allocator.name, 'no run succeeded')}")
    for line in missing:
        print(f"  missing: {line}")
    summary = summarise(cells, args.besides, chosen, args.kinds)
    write_table(summary, chosen, cells)
    print("\nEach number is the median over the rounds: 'max' is the median of the rounds' maxima. max/best: to the best "
          "peer's.\nclock: reading the clock twice with nothing between, which every other number contains; its maxima "
          "are the machine's.")
    if args.json:
        document = {
            "format": 1, "machine": facts, "seconds": round(seconds, 1), "rounds": args.runs, "calls": args.calls,
            "free_mib": args.free_mib, "allocators": identities, "missing": missing, "points": POINTS,
            "summary": summary,
            "samples": {beside: {a.name: {"failure": cells[beside, a.name].failure,
                                          "skipped": cells[beside, a.name].skipped,
                                          "runs": cells[beside, a.name].points} for a in chosen}
                        for beside in args.besides},
        }
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    failures = [(key, cell.failure) for key, cell in cells.items() if cell.failure]
    for (beside, allocator), failure in failures:
        sys.stderr.write(f"latency: {allocator} beside {beside} failed: {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nlatency: interrupted\n")
        sys.exit(130)
