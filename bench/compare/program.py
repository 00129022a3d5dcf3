# SPDX-License-Identifier: Apache-2.0
"""What the real programs of real_programs.py have in common."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Callable, List

from bench.lib.allocators import Allocator

TIMEOUT = 300.0


class Skipped(Exception):
    """A program that cannot run here, with the reason."""


@dataclass
class Timing:
    seconds: float
    cpu_seconds: float  # of the program and the children that it waited for
    peak_kib: int
    faults: int


@dataclass
class Program:
    name: str
    text: str
    probe: List[str]  # a short run of the same executable, which shows where its malloc comes from
    run: Callable[[Allocator], Timing]


def executable(*names: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise Skipped(f"{names[0]} is not installed")


def measured(measure: str, command: List[str], directory: str) -> Callable[[Allocator], Timing]:
    """Runs `command` with the small launcher that measures time and peak memory."""
    report = os.path.join(directory, "report")

    def run(allocator: Allocator) -> Timing:
        done = subprocess.run([measure, report, allocator.path or "-", *command], cwd=directory,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, errors="replace", timeout=TIMEOUT, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"exit status {done.returncode}: {last}")
        with open(report, encoding="ascii") as file:
            wall, user, system, peak, faults = map(int, file.read().split())
        return Timing(wall / 1e9, (user + system) / 1e6, peak, faults)

    return run
