# SPDX-License-Identifier: Apache-2.0
"""Time, processor time, peak memory and page faults of real programs with each allocator preloaded."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Dict, List, Optional

from bench.compare import programs
from bench.lib import cli
from bench.lib import machine
from bench.lib import runs
from bench.lib import stats
from bench.lib.allocators import Allocator

DEFAULT_RUNS = 10


def c_library() -> str:
    """The path of the running C library.

    It is preloaded for the row "glibc", too: a program that is itself linked against another allocator (Debian's
    redis-server is, against jemalloc) would otherwise use that one.
    """
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            path = line.split()[-1]
            if os.path.basename(path).startswith(("libc.so", "libc-")):
                return path
    raise RuntimeError("this Python interpreter does not use a shared C library")


def measure_all(
    chosen: List[Allocator], prepared: List[programs.Program], runs: int, libc: str, directory: str
) -> Dict:
    """Samples by program and allocator, measured in turn. A cell that fails has the reason."""
    cells = {p.name: {a.name: {"samples": [], "failure": None} for a in chosen} for p in prepared}
    for program in prepared:
        for allocator in chosen:
            wrong = programs.check_binding(program, allocator, libc, directory)
            if wrong:
                cells[program.name][allocator.name]["failure"] = f"not proved to use {allocator.name}: {wrong}"
    for number in range(runs):
        sys.stderr.write(f"real_programs: round {number + 1} of {runs}\n")
        for row, program in enumerate(prepared):
            shift = (number + row) % len(chosen)
            for allocator in chosen[shift:] + chosen[:shift]:
                cell = cells[program.name][allocator.name]
                if cell["failure"]:
                    continue
                try:
                    cell["samples"].append(program.run(allocator))
                except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                    cell["failure"] = str(error)
    return cells


def summarise(cells: Dict) -> Dict:
    def of(cell: Optional[Dict]) -> Optional[Dict]:
        if not cell or cell["failure"] or not cell["samples"]:
            return None
        seconds = [sample.seconds for sample in cell["samples"]]
        return {"seconds": stats.median(seconds), "range": [min(seconds), max(seconds)],
                "cpu_seconds": stats.median([sample.cpu_seconds for sample in cell["samples"]]),
                "peak_kib": stats.median([sample.peak_kib for sample in cell["samples"]]),
                "faults": stats.median([sample.faults for sample in cell["samples"]])}

    summary = {}
    for program, by_allocator in cells.items():
        base = of(by_allocator.get("glibc"))
        summary[program] = {}
        for name, cell in by_allocator.items():
            row = of(cell) or {"failure": cell["failure"]}
            if base and "seconds" in row:
                row["time_ratio"] = row["seconds"] / base["seconds"]
                row["cpu_ratio"] = row["cpu_seconds"] / base["cpu_seconds"] if base["cpu_seconds"] else 1.0
                row["memory_ratio"] = row["peak_kib"] / base["peak_kib"]
            summary[program][name] = row
    return summary


def write_table(prepared: List[programs.Program], summary: Dict) -> None:
    form = "{:9}  {:16}  {:>8}  {:>16}  {:>8}  {:>7}  {:>8}  {:>9}  {:>8}  {:>8}"
    print(form.format("program", "allocator", "seconds", "least..most", "to glibc", "CPU s", "to glibc", "peak MiB",
                      "to glibc", "faults"))
    for program in prepared:
        print("-" * 114)
        title = program.name
        for name, row in summary[program.name].items():
            if "failure" in row:
                print(f"{title:9}  {name:16}  FAILED: {row['failure']}")
            else:
                time_ratio, cpu_ratio, memory_ratio = (
                    f"{row[key]:.3f}" if key in row else "-" for key in ("time_ratio", "cpu_ratio", "memory_ratio")
                )
                spread = "{:.3f}..{:.3f}".format(*row["range"])
                peak = f"{row['peak_kib'] / 1024:.1f}"
                print(form.format(title, name, f"{row['seconds']:.3f}", spread, time_ratio,
                                  f"{row['cpu_seconds']:.3f}", cpu_ratio, peak, memory_ratio, f"{row['faults']:.0f}"))
            title = ""
    print("\n" + "; ".join(f"{program.name}: {program.text}" for program in prepared) + ".")
    print("Medians of the rounds. seconds: wall time; CPU s: processor time of all threads and children;\n"
          "peak MiB: the largest process's peak RSS; faults: page faults. Of redis and postgres all but the time are the server's.")


def main(argv: List[str]) -> int:
    names = list(programs.all_programs("", "", 1, ""))
    parser = cli.Parser("real_programs", __doc__)
    parser.add_argument("--program", metavar="NAME,...", default="all", help=f"only these of {', '.join(names)}")
    parser.add_argument("--repo", metavar="DIR", help="the repository for git log (default: the working directory's)")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000), default=DEFAULT_RUNS,
                        help=f"rounds (default {DEFAULT_RUNS})")
    parser.add_argument("--quick", action="store_true", help="one round on small inputs: a smoke test")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    wanted = cli.pick(parser, "--program", args.program, names)
    repository = os.path.normpath(os.path.join(cli.caller_directory(), args.repo or ""))
    if args.repo is not None and not os.path.isdir(repository):
        parser.error(f"--repo: no such directory: {repository}")
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    measure, bench = cli.require(parser, "compare/measure"), cli.require(parser, "workloads/random_mixed")
    identities: Dict[str, str] = {}
    libc = c_library()
    chosen = [Allocator(a.name, a.path or libc) for a in chosen]
    facts = machine.describe()
    # Checks that the library is the named allocator; measure_all checks that the program uses it.
    for allocator in chosen:
        try:
            identities[allocator.name] = runs.run_once(bench, ["1000"], allocator)["Allocator"]
        except (RuntimeError, runs.IdentityError) as error:
            parser.fail(f"a run did not use the allocator it names: {error}")
    with tempfile.TemporaryDirectory(prefix="hakmem-programs-") as directory:
        prepared = []
        ready = programs.all_programs(measure, directory, 1 if args.quick else 10, repository)
        for name in wanted:
            try:
                prepared.append(ready[name]())
            except programs.Skipped as reason:
                missing.append(f"{name}: {reason}")
        cells = measure_all(chosen, prepared, 1 if args.quick else args.runs, libc, directory)
    print(machine.lines(facts))
    for name, identity in identities.items():
        print(f"  {name:16} {identity}")
    for line in missing:
        print(f"  missing: {line}")
    print()
    summary = summarise(cells)
    write_table(prepared, summary)
    if args.json:
        document = {"format": 1, "machine": facts, "allocators": identities, "missing": missing,
                    "summary": summary, "samples": {
            program: {name: {"failure": cell["failure"], "seconds": [s.seconds for s in cell["samples"]],
                             "cpu_seconds": [s.cpu_seconds for s in cell["samples"]],
                             "peak_kib": [s.peak_kib for s in cell["samples"]],
                             "faults": [s.faults for s in cell["samples"]]} for name, cell in row.items()}
            for program, row in cells.items()}}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    return 1 if any("failure" in row for rows in summary.values() for row in rows.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nreal_programs: interrupted\n")
        sys.exit(130)
