# SPDX-License-Identifier: Apache-2.0
"""Makes epoch and latency files for the tests, in a directory that is removed after the test."""

import contextlib
import io
import os
import random
import sys
import tempfile
import unittest
from typing import Callable, Optional, Union

from bench.soak import soak_cli
from bench.soak import soak_data

Values = Union[int, float, str, list]


def epoch_text(count: int, **changed: Values) -> str:
    """`count` quiet epochs of 10 s. A keyword sets a column to one value, or to one value for each epoch."""
    usual: dict[str, Values] = {name: 0 for name in soak_data.NUMERIC}
    usual |= {"epoch": list(range(count)), "time_s": [f"{10 * (i + 1)}.000" for i in range(count)], "phase": "steady"}
    usual |= {"ops": 10_000_000, "ops_per_s": "1000000.0", "rss_kib": 40_000, "private_dirty_kib": 38_000, "max_ns": 5000}
    usual |= changed
    columns = [usual[name] for name in soak_data.COLUMNS]
    rows = [",".join(str(c[i] if isinstance(c, list) else c) for c in columns) for i in range(count)]
    return "\n".join([",".join(soak_data.COLUMNS), *rows]) + "\n"


def latency_text(rows: list[tuple[int, int, int, int]]) -> str:
    return "\n".join(["epoch,low_ns,high_ns,count", *(",".join(map(str, row)) for row in rows)]) + "\n"


def noisy(seed: int, count: int, middle: float, spread: float) -> list[int]:
    source = random.Random(seed)
    return [round(source.gauss(middle, spread)) for _ in range(count)]


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


class FilesTest(unittest.TestCase):
    """Files are written, and named on command lines, relative to the test's directory."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        before = os.environ.get("BUILD_WORKING_DIRECTORY")
        os.environ["BUILD_WORKING_DIRECTORY"] = self.directory
        self.addCleanup(self.restore, before)

    @staticmethod
    def restore(before: Optional[str]) -> None:
        os.environ.pop("BUILD_WORKING_DIRECTORY")
        if before is not None:
            os.environ["BUILD_WORKING_DIRECTORY"] = before

    def write(self, name: str, text: str) -> str:
        with open(os.path.join(self.directory, name), "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        return name

    def read(self, name: str) -> str:
        with open(os.path.join(self.directory, name), encoding="utf-8") as stream:
            return stream.read()

    def run_program(self, module: object, *args: str) -> Result:
        """The program's main with these arguments, its status and what it prints."""
        out, err = io.StringIO(), io.StringIO()
        before, sys.argv = sys.argv, [module.PROG, *args]
        main: Callable[[], None] = module.main
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as end:
                soak_cli.run_main(module.PROG, main)
        finally:
            sys.argv = before
        return Result(end.exception.code, out.getvalue(), err.getvalue())
