# SPDX-License-Identifier: Apache-2.0
"""Says which allocator, or which preset of hakmem, serves a program best, in time, peak and trough.

The program's calls are recorded, or come from a trace of //bench:record, and are replayed on hakmem FAST, on STANDARD
with each preset, and on the installed peers.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from bench.lib import cli
from bench.lib import machine
from bench.lib import stats
from bench.lib.allocators import Allocator
from bench.lib.runs import IdentityError
from bench.replay import replay

PRESETS = ("balanced", "speed", "lean")
DEFAULT_RUNS = 5
REST_MS = 3000
# Columns that differ by less are called equal.
EQUAL = 0.02
COLUMNS = ("time", "peak", "trough")


@dataclass(frozen=True)
class Preset(Allocator):
    """hakmem STANDARD with one of its presets."""

    preset: str = ""

    def environment(self, base: Dict[str, str]) -> Dict[str, str]:
        return {**super().environment(base), "HAKMEM_PROFILE": self.preset}


def with_presets(chosen: Sequence[Allocator]) -> List[Allocator]:
    found: List[Allocator] = []
    for allocator in chosen:
        if allocator.name == "hakmem-standard":
            found += [Preset(f"hakmem-standard-{preset}", allocator.path, preset) for preset in PRESETS]
        else:
            found.append(allocator)
    return found


def summarise(cells: Dict[str, replay.Cell]) -> Dict[str, Dict[str, float]]:
    """By allocator: the medians, and `all`, the geometric mean of its ratios to the best of each column."""
    rows = {name: dict(zip(COLUMNS, (stats.median(cell.seconds), stats.median(cell.peak_kib),
                                     stats.median(cell.end_kib))))
            for name, cell in cells.items() if cell.seconds}
    for row in rows.values():
        # A page more or less than nothing is no difference.
        ratios = [max(row[column], 4) / max(min(other[column] for other in rows.values()), 4)
                  if column != "time" else row[column] / min(other[column] for other in rows.values())
                  for column in COLUMNS]
        row["all"] = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return rows


def best_of(rows: Dict[str, Dict[str, float]], column: str) -> List[str]:
    """The best allocators of a column, the best one first: those that are equal to it."""
    least = max(min(row[column] for row in rows.values()), 1e-9)
    return [name for name in sorted(rows, key=lambda name: rows[name][column])
            if rows[name][column] <= least * (1 + EQUAL)]


def write(rows: Dict[str, Dict[str, float]], cells: Dict[str, replay.Cell]) -> None:
    form = "{:24}  {:>9}  {:>18}  {:>9}  {:>10}  {:>6}"
    print(form.format("allocator", "seconds", "least..most", "peak MiB", "trough MiB", "all"))
    for name, cell in cells.items():
        if name not in rows:
            print(f"{name:24}  FAILED: {cell.failure}")
            continue
        row = rows[name]
        print(form.format(name, f"{row['time']:.4f}", f"{min(cell.seconds):.4f}..{max(cell.seconds):.4f}",
                          f"{row['peak'] / 1024:.2f}", f"{row['trough'] / 1024:.2f}", f"{row['all']:.3f}"))
    if not rows:
        return
    print()
    for column in (*COLUMNS, "all"):
        print(f"Best in {column if column != 'all' else 'all three'}: {', '.join(best_of(rows, column))}")


def recorded(parser: cli.Parser, program: List[str], path: str) -> None:
    """Records in a process of its own, whose output is the program's."""
    command = [sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "record.py"), "--output",
               path, "--", *program]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        parser.fail("the program could not be recorded")


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[str], List[Allocator], List[str], cli.Parser]:
    at = argv.index("--") if "--" in argv else len(argv)
    argv, program = argv[:at], argv[at + 1:]
    parser = cli.Parser("advise", __doc__)
    parser.usage = "advise [--runs N] [--rest-ms N] [--allocator NAME,...] [--json FILE] TRACE | -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("trace", metavar="TRACE", nargs="?", help="a file, or the name of one of bench/replay/traces")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000), default=DEFAULT_RUNS,
                        help=f"rounds (default {DEFAULT_RUNS})")
    parser.add_argument("--rest-ms", metavar="N", type=cli.whole_number(0, 1_000_000), default=REST_MS,
                        help=f"how long a process is idle before its trough is read (default {REST_MS})")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    if (args.trace is None) == (not program):
        parser.error("either a trace, or a program behind --")
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    return args, program, with_presets(chosen), missing, parser


def main(argv: List[str]) -> int:
    args, program, chosen, missing, parser = parse(argv)
    worker = cli.require(parser, "replay/replay_worker")
    facts = machine.describe()
    with tempfile.TemporaryDirectory(prefix="hakmem-advise-") as folder:
        path = replay.find_trace(args.trace) if args.trace else os.path.join(folder, "program.trace")
        if program:
            recorded(parser, program, path)
        trace = replay.facts_of(worker, path, "advise")
        rounds = replay.rounds_for(trace)
        options = ["--rounds", str(rounds), "--rest-ms", str(args.rest_ms)]
        try:
            cells, identities = replay.measure(worker, path, options, chosen, args.runs, "advise")
        except IdentityError as error:
            sys.stderr.write(f"advise: a run did not use the allocator it names: {error}\n")
            return 1
    rows = summarise(cells)
    print(machine.lines(facts))
    print(f"Trace: {replay.described(trace, args.runs, rounds)}")
    for line in missing:
        print(f"  missing: {line}")
    print()
    write(rows, cells)
    print(f"\nMemory above the process's before the first call; trough: after everything is freed and {args.rest_ms} ms of a "
          f"call each 100 ms.\nall: geometric mean of the ratios to the best of each column. Within {EQUAL:.0%} counts as "
          "equal.")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"format": 1, "machine": facts, "trace": trace, "rounds": rounds, "allocators": identities,
                       "missing": missing, "summary": rows,
                       "samples": {name: vars(cell) for name, cell in cells.items()}}, file, indent=1)
            file.write("\n")
    return replay.status_of(cells, "advise")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nadvise: interrupted\n")
        sys.exit(130)
