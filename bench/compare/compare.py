# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmark workloads on hakmem, the no-op floor and the installed peers, and prints one table."""

import argparse
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from bench.compare import compare_table
from bench.compare import page
from bench.compare import rss
from bench.lib import cli
from bench.lib import fetch_peers
from bench.lib import machine
from bench.lib.allocators import FLOOR, Allocator, fetched
from bench.lib.runs import IdentityError, Progress, run_once
from bench.workloads.table import GROUPS, WORKLOADS, Workload

TIME_BUDGET = 75.0  # seconds for the default run; no round starts that would end later
DEFAULT_RUNS = 7  # the least odd number for which an interval inside the extremes has 95 % confidence
QUICK_RUNS = 3
MIN_RUNS = 3


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


@dataclass
class Outcome:
    cells: Dict[Tuple[str, str], Cell]
    identities: Dict[str, str]
    compiler: str
    rounds: int
    seconds: float
    curves: Dict[str, Dict[str, rss.Curve]] = field(default_factory=dict)  # by workload and allocator; only for the page


def takes_part(workload: Workload, chosen: List[Allocator]) -> List[Allocator]:
    return [allocator for allocator in chosen if workload.has_floor or allocator.name != FLOOR]


def measure(everyone: List[Allocator], workloads: List[Workload], args: argparse.Namespace) -> Outcome:
    """Runs round after round, each allocator once in each round. The order rotates or is random, so that no allocator
    always follows the same other one."""
    cells = {(w.name, a.name): Cell() for w in workloads for a in takes_part(w, everyone)}
    identities: Dict[str, str] = {}
    compiler = "unknown"
    progress = Progress()
    longest, done = 0.0, 0
    unasked = args.workload is None and args.group is None
    budget = TIME_BUDGET if args.runs is None and unasked and args.allocator is None else None
    planned = args.runs or (QUICK_RUNS if args.quick else DEFAULT_RUNS)
    for number in range(planned):
        begin = time.monotonic()
        # The page needs one more round.
        if budget and number >= MIN_RUNS and begin - progress.start + longest * (2 if args.html else 1) > budget:
            break
        for row, workload in enumerate(workloads):
            chosen = takes_part(workload, everyone)
            if not chosen:
                continue
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
                    values = run_once(args.programs[workload.program], workload.arguments(args.quick), allocator)
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
    outcome = Outcome(cells, identities, compiler, done, time.monotonic() - progress.start)
    if args.html:
        outcome.curves = sample_memory(everyone, workloads, args, cells, progress)
    return outcome


def sample_memory(everyone: List[Allocator], workloads: List[Workload], args: argparse.Namespace,
                  cells: Dict[Tuple[str, str], Cell], progress: Progress) -> Dict[str, Dict[str, rss.Curve]]:
    """RSS over time of each cell that did not fail, in a run of its own. The floor's memory means nothing."""
    curves: Dict[str, Dict[str, rss.Curve]] = {}
    for row, workload in enumerate(workloads):
        curves[workload.name] = {}
        for place, allocator in enumerate(everyone):
            cell = cells.get((workload.name, allocator.name))
            if allocator.name == FLOOR or cell is None or cell.failure:
                continue
            progress.show("RSS over time", f"{workload.name} on {allocator.name}", row == 0 and place == 0)
            try:
                curves[workload.name][allocator.name] = rss.sample(
                    args.programs[workload.program], workload.arguments(args.quick), allocator)
            except RuntimeError as error:
                cell.failure = f"while its memory was sampled: {error}"
            finally:
                progress.clear()
    return curves


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Workload], List[Allocator], List[str]]:
    names = [workload.name for workload in WORKLOADS]
    parser = cli.Parser("compare", __doc__)
    parser.add_argument("--quick", action="store_true", help=f"smoke test: {QUICK_RUNS} short rounds")
    parser.add_argument("--workload", metavar="NAME,...", help=f"only these, or 'all' ({', '.join(names)})")
    parser.add_argument("--group", metavar="NAME,...",
                        help=f"all workloads of these groups, or 'all' ({', '.join(GROUPS)}); without --group and "
                             "--workload a choice that takes 90 s")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000),
                        help=f"rounds (default {DEFAULT_RUNS}, fewer when time is up)")
    parser.add_argument("--html", metavar="FILE", help="write the tables and plots as one page to FILE")
    parser.add_argument("--latency", metavar="FILE", help="a result of //bench:latency --json, for the page")
    parser.add_argument("--fetch-peers", metavar="MIRROR", nargs="?", const="",
                        help="first unpack Debian sid's mimalloc 3 into the cache of the user, from apt's mirror or MIRROR")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    page_options(parser, args)
    if args.fetch_peers and not fetch_peers.is_mirror(args.fetch_peers):
        parser.error(f"--fetch-peers: '{args.fetch_peers}' is no http://, https:// or file:/// address")
    if args.fetch_peers is not None:
        try:
            version = fetch_peers.fetch(args.fetch_peers or None)
        except (fetch_peers.FetchError, OSError) as error:
            parser.fail(f"--fetch-peers: {error}")
        sys.stderr.write(f"compare: {fetch_peers.PACKAGE} {version} is in the cache, as {fetch_peers.PEER}\n")
    chosen, missing = cli.resolve_common_options(parser, args, floor=True)
    if args.workload is not None and args.group is not None:
        parser.error("--group does not go with --workload")
    if args.workload is not None:
        wanted = cli.pick(parser, "--workload", args.workload, names)
        workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    elif args.group is not None:
        groups = cli.pick(parser, "--group", args.group, list(GROUPS))
        workloads = [workload for workload in WORKLOADS if workload.group in groups]
    else:
        workloads = [workload for workload in WORKLOADS if workload.default]
    args.programs = {program: cli.require(parser, program) for program in sorted({w.program for w in workloads})}
    return args, workloads, chosen, missing


def page_options(parser: cli.Parser, args: argparse.Namespace) -> None:
    """Checks, before anything runs, that the page can be written, and reads the result of latency."""
    if args.latency is not None and args.html is None:
        parser.error("--latency needs --html")
    if args.html is not None:
        args.html = os.path.join(cli.caller_directory(), args.html)
        if os.path.isdir(args.html) or not os.path.isdir(os.path.dirname(args.html)):
            parser.error(f"--html: cannot write {args.html}")
    if args.latency is not None:
        path = os.path.join(cli.caller_directory(), args.latency)
        try:
            with open(path, encoding="utf-8") as file:
                args.latency = json.load(file)
            if args.latency["format"] != 1:
                raise ValueError("another format")
            page.check_latency(args.latency)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            parser.error(f"--latency: {path} is no result of //bench:latency: {error}")


def left_out(workloads: List[Workload]) -> Dict[str, List[str]]:
    """By group, the workloads that do not run."""
    run = {workload.name for workload in workloads}
    out: Dict[str, List[str]] = {}
    for workload in WORKLOADS:
        if workload.name not in run:
            out.setdefault(workload.group, []).append(workload.name)
    return out


def make_document(facts: Dict[str, str], outcome: Outcome, workloads: List[Workload], summary: Dict,
                  missing: List[str], quick: bool) -> Dict:
    """What --json writes, and --html shows."""
    return {
        "format": 1,
        "quick": quick,
        "machine": facts,
        "compiler": outcome.compiler,
        "seconds": round(outcome.seconds, 1),
        "rounds": outcome.rounds,
        "allocators": outcome.identities,
        "missing": missing,
        "left_out": left_out(workloads),
        "geometric_means": compare_table.means(workloads, summary),
        "workloads": {
            workload.name: {
                "text": workload.text,
                "group": workload.group,
                "ws": workload.ws,
                "size": workload.size,
                "threads": workload.threads,
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
                "rss_over_time": rss.as_json(outcome.curves.get(workload.name, {})),
            }
            for workload in workloads
        },
    }


def main(argv: List[str]) -> int:
    args, workloads, chosen, missing = parse(argv)
    facts = machine.describe()
    try:
        outcome = measure(chosen, workloads, args)
    except IdentityError as error:
        sys.stderr.write(f"compare: a run did not use the allocator it names: {error}\n")
        return 1
    print(machine.lines(facts))
    print(f"Harness: random_mixed built by {outcome.compiler}; {outcome.rounds} rounds in {outcome.seconds:.0f} s"
          + ("; --quick: too short for claims" if args.quick else ""))
    for allocator in chosen:
        source = fetched(allocator)
        print(f"  {allocator.name:16} {outcome.identities.get(allocator.name, 'no run succeeded')}"
              + (f", {source}" if source else ""))
    for line in missing:
        print(f"  missing: {line}")
    for group, names in left_out(workloads).items():
        print(f"  left out: {group}: {', '.join(names)}")
    print()
    summary = {w.name: compare_table.summarise(w, takes_part(w, chosen), outcome.cells) for w in workloads}
    compare_table.write(sys.stdout, workloads, summary)
    document = make_document(facts, outcome, workloads, summary, missing, args.quick)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    if args.html:
        order = [workload.name for workload in compare_table.worst_first(workloads, summary)]
        with open(args.html, "w", encoding="utf-8") as file:
            file.write(page.page(document, order, args.latency))
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
