# SPDX-License-Identifier: Apache-2.0
"""RSS over the time of a run: sampled while random_mixed runs once more, apart from the rounds whose time counts."""

import os
import subprocess
import time
from typing import Dict, List, NamedTuple, Tuple

from bench.lib.allocators import Allocator
from bench.lib.runs import RUN_TIMEOUT

MOST_POINTS = 240  # as many as a plot can show
FIRST_STEP = 0.001  # seconds between two samples, until there are too many


class Curve(NamedTuple):
    """RSS of the process itself, without its children. `seconds` rise from the start of the process."""

    seconds: List[float]
    kib: List[int]


def resident_kib(pid: int, page_kib: int) -> int:
    """0: the process has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * page_kib
    except (OSError, IndexError, ValueError):
        return 0


def thin_out(points: List[Tuple[float, int]]) -> List[Tuple[float, int]]:
    """Half as many points. Of each pair the one with more memory stays, so that no peak is lost."""
    pairs = [points[i:i + 2] for i in range(0, len(points), 2)]
    return [max(pair, key=lambda point: point[1]) for pair in pairs]


def sample(bench: str, arguments: List[str], allocator: Allocator) -> Curve:
    """Runs the benchmark once. RuntimeError when it failed. It gives no throughput, because the samples disturb it."""
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    points: List[Tuple[float, int]] = []
    step = FIRST_STEP
    begin = time.monotonic()  # Popen returns late on a busy machine
    with subprocess.Popen([bench, *arguments], env=allocator.environment(dict(os.environ)), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            now = time.monotonic() - begin
            if now > RUN_TIMEOUT:
                process.kill()
                process.wait()
                raise RuntimeError(f"still running after {RUN_TIMEOUT:.0f} s")
            kib = resident_kib(process.pid, page_kib)
            if kib:
                points.append((now, kib))
            if len(points) >= 2 * MOST_POINTS:
                points, step = thin_out(points), 2 * step
            time.sleep(step)
    if process.returncode != 0:
        raise RuntimeError(f"exit status {process.returncode}")
    while len(points) > MOST_POINTS:
        points = thin_out(points)
    return Curve([round(at, 4) for at, _ in points], [kib for _, kib in points])


def as_json(curves: Dict[str, Curve]) -> Dict[str, Dict[str, List]]:
    return {name: {"seconds": curve.seconds, "kib": curve.kib} for name, curve in curves.items()}
