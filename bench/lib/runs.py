# SPDX-License-Identifier: Apache-2.0
"""One run of random_mixed on an allocator, and the line on the terminal that shows the progress of many runs."""

import os
import subprocess
import sys
import time
from typing import Dict, List

from bench.lib.allocators import Allocator

RUN_TIMEOUT = 120.0  # seconds


class IdentityError(Exception):
    """A run used another allocator than intended."""


def run_once(bench: str, arguments: List[str], allocator: Allocator) -> Dict[str, str]:
    """Runs the benchmark once; returns its "key = value" lines. RuntimeError when it failed, IdentityError as said."""
    try:
        done = subprocess.run(
            [bench, *arguments],
            env=allocator.environment(dict(os.environ)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"still running after {RUN_TIMEOUT:.0f} s") from None
    # If ld.so cannot preload a library, it only warns and continues without it.
    if "cannot be preloaded" in done.stderr:
        raise IdentityError(f"{allocator.name}: {done.stderr.strip().splitlines()[0]}")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    values = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    wrong = allocator.check_identity(values.get("Allocator", ""))
    if wrong:
        raise IdentityError(f"{allocator.name}: {wrong}")
    return values


class Progress:
    """One line on stderr: rewritten in place on a terminal, otherwise one for each round."""

    def __init__(self, prog: str = "compare") -> None:
        self.prog = prog
        self.tty = sys.stderr.isatty()
        self.start = time.monotonic()

    def show(self, round_text: str, detail: str, first: bool) -> None:
        seconds = time.monotonic() - self.start
        if self.tty:
            sys.stderr.write(f"\r\033[K{self.prog}: {round_text}, {seconds:.0f} s: {detail}")
        elif first:
            sys.stderr.write(f"{self.prog}: {round_text}, {seconds:.0f} s\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self.tty:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
