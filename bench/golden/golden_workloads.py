# SPDX-License-Identifier: Apache-2.0
"""Compares the instructions of six workloads in this build with the golden table.

workloads.json has the table, and docs/analysis/scorecards/golden_workloads.md shows it: for each compiler and profile,
the instructions that the allocator executes in the whole process, by callgrind. A change that makes a slow path longer,
or taken more often, changes the table in the same commit.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, Iterable, List, Mapping, NamedTuple, Sequence, TextIO, Tuple

from bench.compare.instructions import self_cost
from bench.golden import golden
from bench.lib import allocators, cli

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = "bench/golden/workloads.json"
PAGE = "docs/analysis/scorecards/golden_workloads.md"
PROFILES = ("fast", "standard")
ADVICE = "if this is wanted: ./bazelw run //bench:golden_workloads -- --write, with the --config of this build"
# Counts repeat exactly on one machine (golden_workloads_test). Another kernel may answer a memory call otherwise, and
# the files that are read at the start may be longer there. One instruction more in each call would be over one in a
# hundred.
TOLERANCE = 0.001


class Run(NamedTuple):
    """A row of the table of workloads with fewer cycles, so that it takes a second or two under callgrind."""

    workload: str
    cycles: int
    what: str


RUNS = (
    Run("mixed-4k", 500000, "small blocks: hits, refills and flushes of a thread cache"),
    Run("heavy-4k", 200000, "heavy-tailed sizes: medium blocks beside small ones"),
    Run("growth-20k", 100000, "fresh memory: slabs are taken, and stay"),
    Run("large", 20000, "32 KiB..1 MiB: the page heap"),
    Run("realloc-vector", 3000, "vectors that double, to 1 MiB"),
    Run("thread_churn", 200, "threads that begin, leave half of their blocks to another, and end"),
)

Counts = Dict[str, Tuple[int, int]]  # by workload: instructions in the allocator, operations


class CountError(Exception):
    """A count is not known; the message says why."""


def environment(library: str, clock: str, more: Mapping[str, str]) -> Dict[str, str]:
    """Nothing of the caller's environment: hakmem looks through all of it at the start."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_PRELOAD": f"{library}:{clock}", **more}


def runs_function(profile: Iterable[str], file: str, function: str) -> bool:
    """Whether the code of `function` in the object `file` ran, by callgrind's profile."""
    current = ""
    for line in profile:
        if line.startswith("ob="):
            current = line[3:].strip()
        elif current == file and line.strip() == "fn=" + function:
            return True
    return False


def count(program: str, library: str, clock: str, run: Run, more: Mapping[str, str] = {}) -> Tuple[int, int]:
    """Instructions of `library` in one run, and the operations of the run. `more`: variables for the run."""
    library, clock = os.path.realpath(library), os.path.realpath(clock)
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise CountError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="hakmem-golden-") as directory:
        out = os.path.join(directory, "out")
        # Threads take turns in a fixed order. Debugger pipes are named after the process id, which can be the same in
        # another sandbox.
        command = [valgrind, "-q", "--vgdb=no", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={out}",
                   "--compress-strings=no", "--compress-pos=no", program, str(run.cycles), "--workload", run.workload]
        done = subprocess.run(command, env=environment(library, clock, more), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CountError(f"{run.workload}: exit status {done.returncode}: {last}")
        cost = self_cost(out)
        with open(out, encoding="utf-8", errors="replace") as file:
            still = runs_function(file, clock, "hak_clock_read")
    values = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    wrong = allocators.Allocator("hakmem", library).check_identity(values.get("Allocator", ""))
    if wrong:
        raise CountError(f"{run.workload}: {wrong}")
    if not still:
        raise CountError(f"{run.workload}: {library} did not read the clock of still_clock.c, so its counts do not repeat: "
                         "has hak_clock_read another name, or is the library stripped?")
    return cost[library], int(values["Operations"].split()[0])


def builds(profiles: Sequence[str]) -> List[Tuple[str, str]]:
    """(key in the table, library) of what this build has."""
    found = []
    for profile in profiles:
        library = os.path.realpath(os.path.join(os.path.dirname(HERE), "lib", f"libhakmem_{profile}.so"))
        found.append((f"{golden.machine_of(library)}, {golden.compiler_of(library)}, {profile}", library))
    return found


def measure(library: str, runs: Sequence[Run] = RUNS) -> Counts:
    program = os.path.realpath(os.path.join(os.path.dirname(HERE), "workloads", "random_mixed"))
    clock = os.path.realpath(os.path.join(HERE, "libstill_clock.so"))
    return {run.workload: count(program, library, clock, run) for run in runs}


def differences(key: str, table: Mapping[str, Sequence[int]], now: Counts) -> List[str]:
    """One line for each workload whose count differs by more than the tolerance."""
    lines = []
    for name, (instructions, operations) in now.items():
        before, of = table.get(name, (0, 0))
        if not before or operations != of:
            lines.append(f"{key}: {name}: the table has no count of {operations} operations; now {instructions}")
        elif abs(instructions - before) > before * TOLERANCE:
            lines.append(f"{key}: {name}: {before} -> {instructions} instructions ({instructions / before - 1:+.2%}; "
                         f"{before / of:.2f} -> {instructions / of:.2f} an operation)")
    return lines


def as_json(table: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """One line for each workload, so that a change shows what it changed."""
    found = []
    for key in sorted(table):
        rows = ",\n".join(f"  {json.dumps(run.workload)}: {json.dumps(list(table[key][run.workload]))}" for run in RUNS
                          if run.workload in table[key])
        found.append(f"{json.dumps(key)}: {{\n{rows}\n }}")
    return "{\n " + ",\n ".join(found) + "\n}\n"


HEAD = f"""<!-- SPDX-License-Identifier: Apache-2.0 -->
# The golden instructions of six workloads

The instructions that `libhakmem.so` executes in a whole process that runs a workload with a fixed seed, counted by callgrind: of the
allocator only, start and end of the process included, without the C library and the workload itself. They tell how much work a path is,
not how fast it is: no cache misses, no waiting, and no time in the kernel. `./bazelw run //bench:golden_workloads -- --write` writes this page and
bench/golden/workloads.json for the compiler of its build; `//bench/golden:golden_workloads_test` compares each build with them.

A count repeats exactly: the run has a fixed environment, threads take turns, valgrind chooses the addresses, and hakmem's clock
advances by a microsecond at each reading (`bench/golden/still_clock.c`). Another kernel may answer otherwise, so the test lets a count differ by
one in {round(1 / TOLERANCE):,}.
"""


def page(table: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    lines = [HEAD]
    for run in RUNS:
        lines += [f"## {run.workload}", "", f"{run.what[0].upper()}{run.what[1:]}.", "",
                  "| build | operations | instructions | an operation |", "| --- | ---: | ---: | ---: |"]
        for key in sorted(key for key in table if run.workload in table[key]):
            instructions, operations = table[key][run.workload]
            lines.append(f"| {key} | {operations:,} | {instructions:,} | {instructions / operations:.2f} |")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def read_table() -> Dict[str, Dict[str, List[int]]]:
    return golden.read_rows(os.path.join(HERE, "workloads.json"), 2)


def check(profiles: Sequence[str], out: TextIO) -> int:
    """The exit status: 1 when a count differs."""
    table = read_table()
    lines = [line for key, library in builds(profiles) for line in differences(key, table.get(key, {}), measure(library))]
    out.write("\n".join(lines + [ADVICE]) if lines else "all counts are as in the golden table")
    out.write("\n")
    return 1 if lines else 0


def write(profiles: Sequence[str], root: str) -> None:
    table = read_table()
    for key, library in builds(profiles):
        table[key] = {name: list(counts) for name, counts in measure(library).items()}
    for name, text in ((TABLE, as_json(table)), (PAGE, page(table))):
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(text)


def main(argv: List[str]) -> int:
    parser = cli.Parser("golden_workloads", __doc__)
    parser.add_argument("--profiles", metavar="NAME,...", default="all", help=f"only these of {', '.join(PROFILES)}")
    parser.add_argument("--write", action="store_true", help="write the table and its page")
    args = parser.parse_args(argv)
    profiles = cli.pick(parser, "--profiles", args.profiles, list(PROFILES))
    try:
        if not args.write:
            return check(profiles, sys.stdout)
        write(profiles, os.environ.get("BUILD_WORKSPACE_DIRECTORY", os.getcwd()))
        return 0
    except golden.TableError as error:
        parser.error(str(error))
    except (CountError, golden.paths.PathError, OSError, ValueError, subprocess.SubprocessError) as error:
        parser.fail(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
