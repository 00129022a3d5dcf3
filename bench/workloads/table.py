# SPDX-License-Identifier: Apache-2.0
"""The workloads of //bench:compare and //bench:ab: rows of table.inc."""

import os
import re
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Tuple

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "table.inc")
LOOP = re.compile(r"^LOOP\((\w+), ([A-Z0-9_ |]+)\)$", re.M)
WORKLOAD = re.compile(r'^WORKLOAD\("([\w-]+)", (\w+), (\d+), (\d+), (\d+), (\d+), (\d+), (\d+), (\w+), (\w+), '
                      r'(\w+), (\w+),\s+"([^"\\]*)"\)$', re.M)
GROUPS = ("small", "large", "threads", "memory", "programs")


@dataclass(frozen=True)
class Workload:
    name: str
    text: str
    cycles: int
    ws: int
    threads: int
    takes: FrozenSet[str]  # of its loop
    default: bool
    group: str
    size: int = 0  # the smallest
    extra: Tuple[str, ...] = ()  # more options of random_mixed

    def arguments(self, quick: bool) -> List[str]:
        cycles = max(1, self.cycles // 4) if quick else self.cycles
        return [str(cycles), str(self.ws), "--workload", self.name, *self.extra]

    @property
    def program(self) -> str:
        """The program below bench/ that runs it."""
        return "workloads/random_mixed_cxx" if "CXX" in self.takes else "workloads/random_mixed"

    @property
    def has_floor(self) -> bool:
        """Whether the no-op floor, which hands out blocks that are in use, can run it."""
        return "CHECKED" not in self.takes

    @property
    def shuffled(self) -> bool:
        """A random order for each round, because memory that the previous run has freed is warm, and the first touch of
        it costs less."""
        return "FIRST_TOUCH" in self.takes


def read(text: str) -> Tuple[Workload, ...]:
    """The workloads of a table that compare and ab use. ValueError: a row has another form than the two above."""
    loops: Dict[str, FrozenSet[str]] = {name: frozenset(takes.split(" | ")) for name, takes in LOOP.findall(text)}
    found = WORKLOAD.findall(text)
    rows = len(re.findall(r"^\w+\(", text, re.M))
    if rows != len(loops) + len(found):
        raise ValueError(f"table.inc has {rows} rows, of which {len(loops) + len(found)} can be read")
    workloads = []
    for name, loop, cycles, ws, size, _, threads, _, _, _, group, who, shown in found:
        if loop not in loops or who not in ("COMPARED", "NAMED", "ALONE") or group.lower() not in GROUPS:
            raise ValueError(f"table.inc: the row of {name} names no loop, no group, or nobody who runs it")
        if who != "ALONE":
            workloads.append(Workload(name, shown, int(cycles), int(ws), int(threads), loops[loop], who == "COMPARED",
                                      group.lower(), int(size)))
    return tuple(workloads)


with open(FILE, encoding="utf-8") as stream:
    WORKLOADS = read(stream.read())
