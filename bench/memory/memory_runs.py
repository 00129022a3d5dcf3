# SPDX-License-Identifier: Apache-2.0
"""Runs of soak_worker for the memory table, each in a process of its own, with a check of the allocator that it
used."""

import csv
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from bench.lib.allocators import Allocator
from bench.lib.runs import IdentityError

TIMEOUT = 180.0
PRESETS = ("balanced", "speed", "lean")
CALLS = ("mmap_calls", "munmap_calls", "madvise_calls", "mprotect_calls", "mremap_calls", "brk_calls")


@dataclass(frozen=True)
class Subject:
    """One column of the table: an allocator, for hakmem STANDARD with one of its presets."""

    name: str
    allocator: Allocator
    preset: Optional[str] = None

    @property
    def is_peer(self) -> bool:
        return self.allocator.is_peer

    @property
    def deadline_s(self) -> int:
        """When free memory must have been returned: two seconds after the last free; for the preset `speed`, whose
        deadline is ten seconds, later."""
        return 12 if self.preset == "speed" else 2

    @property
    def reads_environment(self) -> bool:
        return self.preset is not None

    def environment(self, more: Mapping[str, str]) -> Dict[str, str]:
        env = self.allocator.environment(dict(os.environ))
        if self.preset:
            env["HAKMEM_PROFILE"] = self.preset
        env.update(more)
        return env


def subjects_of(chosen: Sequence[Allocator]) -> List[Subject]:
    found = []
    for allocator in chosen:
        if allocator.name == "hakmem-standard":
            found += [Subject(preset, allocator, preset) for preset in PRESETS]
        else:
            found.append(Subject(allocator.name, allocator))
    return found


@dataclass
class Run:
    """The results of one run. RSS is without the harness's lists of blocks."""

    rows: List[Dict[str, float]] = field(default_factory=list)
    phases: List[str] = field(default_factory=list)
    start_kib: float = 0
    peak_kib: float = 0
    peak_live: int = 0
    identity: str = ""

    def phase(self, name: str, which: int = 0) -> Dict[str, float]:
        """The row with this phase: by its index among these rows, from the beginning or from the end."""
        found = [row for row, phase in zip(self.rows, self.phases) if phase == name]
        if not found or not -len(found) <= which < len(found):
            raise RuntimeError(f"the run has no row '{name}' ({', '.join(self.phases)})")
        return found[which]


def _identity(values: Mapping[str, str], stderr: str, subject: Subject) -> str:
    # If ld.so cannot preload a library, it only warns and continues without it.
    if "cannot be preloaded" in stderr:
        raise IdentityError(f"{subject.name}: {stderr.strip().splitlines()[0]}")
    wrong = subject.allocator.check_identity(values.get("Allocator", ""))
    if wrong:
        raise IdentityError(f"{subject.name}: {wrong}")
    return values["Allocator"]


def _run(command: List[str], subject: Subject, env: Mapping[str, str]) -> Tuple[Dict[str, str], str]:
    try:
        done = subprocess.run(command, env=subject.environment(env), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"still running after {TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    values = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    return values, done.stderr


def soak(worker: str, subject: Subject, arguments: Sequence[str], env: Mapping[str, str]) -> Run:
    """One run of soak_worker. RuntimeError when it fails, IdentityError when it used another allocator."""
    with tempfile.TemporaryDirectory(prefix="hakmem-memory-") as directory:
        path = os.path.join(directory, "rows.csv")
        values, stderr = _run([worker, "--csv", path, *arguments], subject, env)
        run = Run(identity=_identity(values, stderr, subject))
        with open(path, encoding="ascii", newline="") as file:
            for row in csv.DictReader(file):
                run.phases.append(row.pop("phase"))
                run.rows.append({key: float(value) for key, value in row.items()})
    start, peak, harness = (int(values[key].split()[0]) for key in ("Start RSS", "Peak RSS", "Harness"))
    # The kernel counts the high-water mark in batches; the rows are exact.
    run.peak_kib = max([peak, *(row["rss_kib"] for row in run.rows)]) - harness
    run.start_kib = start - harness
    # The harness's lists of blocks would hide differences between allocators.
    for row in run.rows:
        row["rss_kib"] -= harness
    run.peak_live = int(values["Peak live"].split()[0])
    return run


def random_mixed(bench: str, subject: Subject, arguments: Sequence[str]) -> Run:
    """One run of random_mixed: only its peak."""
    values, stderr = _run([bench, *arguments], subject, {})
    return Run(identity=_identity(values, stderr, subject), start_kib=int(values["Start RSS"].split()[0]),
               peak_kib=int(values["Peak RSS"].split()[0]))
