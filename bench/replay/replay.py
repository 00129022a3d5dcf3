# SPDX-License-Identifier: Apache-2.0
"""Replays a trace of //bench:record, with its threads, on hakmem and the installed peers, and prints one table."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from bench.lib import allocators
from bench.lib import cli
from bench.lib import machine
from bench.lib import stats
from bench.lib.allocators import Allocator
from bench.lib.runs import IdentityError, Progress, run_once

DEFAULT_RUNS = 7
# A run has so many replays of a short trace that the clock can tell.
LEAST_CALLS, MOST_ROUNDS = 2_000_000, 10_000


@dataclass
class Cell:
    seconds: List[float] = field(default_factory=list)
    peak_kib: List[int] = field(default_factory=list)  # above the start, so without the trace itself
    end_kib: List[int] = field(default_factory=list)
    failure: Optional[str] = None


def find_trace(name: str) -> str:
    """A file, or the name of a trace that comes with the benchmarks."""
    path = os.path.join(cli.caller_directory(), name)
    if not os.path.exists(path) and os.sep not in name:
        path = allocators.built_file(f"replay/traces/{name}.trace") or path
    return path


def facts_of(worker: str, path: str, prog: str) -> Dict[str, str]:
    """What the reader says about the trace. Exits 2 with its line if it cannot be used."""
    env = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run([worker, "--check", path], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr.replace("replay_worker: ", f"{prog}: ", 1) or f"{prog}: {path}: cannot be read\n")
        sys.exit(2)
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines())


def rounds_for(trace: Dict[str, str]) -> int:
    return min(MOST_ROUNDS, -(-LEAST_CALLS // int(trace["Calls"])))


def measure(worker: str, path: str, options: Sequence[str], chosen: Sequence[Allocator], runs: int,
            prog: str) -> Tuple[Dict[str, Cell], Dict[str, str]]:
    """Run after run, each allocator in a process of its own, in an order that rotates."""
    cells = {allocator.name: Cell() for allocator in chosen}
    identities: Dict[str, str] = {}
    progress = Progress(prog)
    for number in range(runs):
        shift = number % len(chosen)
        for place, allocator in enumerate([*chosen[shift:], *chosen[:shift]]):
            cell = cells[allocator.name]
            progress.show(f"round {number + 1} of {runs}", allocator.name, place == 0)
            if cell.failure:
                continue
            try:
                values = run_once(worker, [*options, path], allocator)
            except RuntimeError as error:
                cell.failure = str(error)
                continue
            finally:
                progress.clear()
            identities[allocator.name] = values["Allocator"]
            start = int(values["Start RSS"].split()[0])
            cell.seconds.append(float(values["Time"].split()[0]))
            cell.peak_kib.append(int(values["Peak RSS"].split()[0]) - start)
            cell.end_kib.append(int(values["End RSS"].split()[0]) - start)
    return cells, identities


def write_table(cells: Dict[str, Cell], chosen: List[Allocator]) -> None:
    medians = {name: stats.median(cell.seconds) for name, cell in cells.items() if cell.seconds}
    peers = [medians[a.name] for a in chosen if a.is_peer and a.name in medians]
    form = "{:16}  {:>9}  {:>18}  {:>7}  {:>9}  {:>9}"
    print(form.format("allocator", "seconds", "least..most", "to best", "peak MiB", "end MiB"))
    for name, cell in cells.items():
        if name not in medians:
            print(f"{name:16}  FAILED: {cell.failure}")
            continue
        ratio = f"{medians[name] / min(peers):.3f}" if peers else "-"
        print(form.format(name, f"{medians[name]:.4f}", f"{min(cell.seconds):.4f}..{max(cell.seconds):.4f}", ratio,
                          f"{stats.median(cell.peak_kib) / 1024:.2f}", f"{stats.median(cell.end_kib) / 1024:.2f}"))


def described(trace: Dict[str, str], runs: int, rounds: int) -> str:
    return (f"{trace['Calls']} calls of {trace['Threads']} threads, at most "
            f"{int(trace['Peak'].split()[0]) / 1048576:.2f} MiB live; {runs} runs of {rounds} replays")


def status_of(cells: Dict[str, Cell], tool: str) -> int:
    """Names the allocators that failed; the exit status of the tool."""
    failures = {name: cell.failure for name, cell in cells.items() if cell.failure}
    for name, failure in failures.items():
        sys.stderr.write(f"{tool}: {name} failed: {failure}\n")
    return 1 if failures else 0


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Allocator], List[str], str]:
    parser = cli.Parser("replay", __doc__)
    parser.add_argument("trace", metavar="TRACE", help="a file, or the name of one of bench/replay/traces")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000), default=DEFAULT_RUNS,
                        help=f"rounds (default {DEFAULT_RUNS})")
    parser.add_argument("--rounds", metavar="N", type=cli.whole_number(1, 1_000_000),
                        help=f"replays in a run (default: so many that a run has {LEAST_CALLS} calls, at most {MOST_ROUNDS})")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    return args, chosen, missing, cli.require(parser, "replay/replay_worker")


def main(argv: List[str]) -> int:
    args, chosen, missing, worker = parse(argv)
    path = find_trace(args.trace)
    trace = facts_of(worker, path, "replay")
    rounds = args.rounds or rounds_for(trace)
    facts = machine.describe()
    try:
        cells, identities = measure(worker, path, ["--rounds", str(rounds)], chosen, args.runs, "replay")
    except IdentityError as error:
        sys.stderr.write(f"replay: a run did not use the allocator it names: {error}\n")
        return 1
    print(machine.lines(facts))
    print(f"Trace: {os.path.basename(path)}, {described(trace, args.runs, rounds)}")
    for allocator in chosen:
        print(f"  {allocator.name:16} {identities.get(allocator.name, 'no run succeeded')}")
    for line in missing:
        print(f"  missing: {line}")
    print()
    write_table(cells, chosen)
    print("\nMedians of the runs. Memory: above the process's before the first call.")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"format": 1, "machine": facts, "trace": {"name": os.path.basename(path), **trace},
                       "rounds": rounds, "allocators": identities, "missing": missing,
                       "samples": {name: vars(cell) for name, cell in cells.items()}}, file, indent=1)
            file.write("\n")
    return status_of(cells, "replay")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nreplay: interrupted\n")
        sys.exit(130)
