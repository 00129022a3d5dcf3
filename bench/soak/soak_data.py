# SPDX-License-Identifier: Apache-2.0
"""Reads the two files that a soak run writes, and refuses damaged ones: a plot of half a file looks like a plot of a
whole one.

Every mistake is a DataError whose text is `FILE:LINE: what`, with FILE as the user named it.
"""

import math
import os
import re
from collections import Counter
from typing import Container, NamedTuple, Optional

FLOATS = ["time_s", "ops_per_s"]
CALLS = ["mmap_calls", "munmap_calls", "madvise_calls", "mprotect_calls", "mremap_calls", "brk_calls"]
LATENCIES = ["p50_ns", "p99_ns", "p999_ns", "max_ns"]
COLUMNS = (
    ["epoch", "time_s", "ops", "ops_per_s", "live_bytes", "rss_kib", "private_dirty_kib", "anon_huge_kib", "mapped_kib"]
    + ["committed_kib", "vmas", "minor_faults", "major_faults"]
    + CALLS
    + LATENCIES
    + ["phase"]
)
NUMERIC = COLUMNS[:-1]
LATENCY_COLUMNS = ["epoch", "low_ns", "high_ns", "count"]

# With fewer epochs, nothing useful can be said about a slope or a tail.
LEAST_EPOCHS = 8

_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

Bucket = tuple[int, int, int]  # the calls that took from low ns to high ns


class DataError(Exception):
    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}" if line else f"{file}: {what}")


class Run(NamedTuple):
    """The epochs of one allocator. Every column has the same length; the line of row i in the file is i + 2."""

    file: str
    columns: dict[str, list[float]]
    phases: list[str]

    def __len__(self) -> int:
        return len(self.phases)


class LatencyRow(NamedTuple):
    line: int
    epoch: int
    bucket: Bucket


def kind_of(file: str, path: str) -> str:
    """ "epochs" or "latency", by the first line."""
    header = _lines(file, path)[0]
    if header == ",".join(COLUMNS):
        return "epochs"
    if header == ",".join(LATENCY_COLUMNS):
        return "latency"
    raise DataError(file, 1, "neither the header of an epoch file nor that of a latency file")


def read_run(file: str, path: Optional[str] = None) -> Run:
    """`file` is what messages call it; `path` is where it is, if that differs."""
    lines = _lines(file, path or file)
    _check_header(file, lines[0], COLUMNS)
    columns: dict[str, list[float]] = {name: [] for name in NUMERIC}
    phases: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        fields = _fields(file, number, line, len(COLUMNS), number == len(lines))
        for name, text in zip(NUMERIC, fields):
            columns[name].append(_number(file, number, name, text))
        if not _WORD.fullmatch(fields[-1]):
            raise DataError(file, number, f"phase must be a word, not '{fields[-1]}'")
        phases.append(fields[-1])
        if number > 2:
            _check_order(file, number, columns)
    return Run(file, columns, phases)


def select(run: Run, warmup: float, is_fraction: bool, phases: Optional[list[str]] = None) -> Run:
    """Selects epochs: without the first `warmup` ones (or that fraction of all, rounded up), and only of the given
    phases.

    Without `phases`, all phases that occur more than once: the row before the first block, or a last phase that shows
    the returned memory, does not repeat."""
    known = Counter(run.phases)
    for phase in phases or []:
        if phase not in known:
            raise DataError(run.file, 0, f"no epoch has the phase '{phase}' (there are: {', '.join(known)})")
    wanted = phases or [phase for phase, count in known.items() if count > 1]
    first = math.ceil(warmup * len(run) - 1e-9) if is_fraction else int(warmup)
    rows = [i for i in range(first, len(run)) if run.phases[i] in wanted]
    if len(rows) < LEAST_EPOCHS:
        what = f"{len(rows)} epochs are left after the warm-up, {LEAST_EPOCHS} are needed"
        raise DataError(run.file, len(run) + 1, what)
    columns = {name: [values[i] for i in rows] for name, values in run.columns.items()}
    return Run(run.file, columns, [run.phases[i] for i in rows])


def read_latency(file: str, path: Optional[str] = None) -> list[LatencyRow]:
    lines = _lines(file, path or file)
    _check_header(file, lines[0], LATENCY_COLUMNS)
    rows: list[LatencyRow] = []
    for number, line in enumerate(lines[1:], start=2):
        fields = _fields(file, number, line, len(LATENCY_COLUMNS), number == len(lines))
        epoch, low, high, count = (int(_number(file, number, name, text)) for name, text in zip(LATENCY_COLUMNS, fields))
        if high < low:
            raise DataError(file, number, f"high_ns {high} is below low_ns {low}")
        if count == 0:
            raise DataError(file, number, "count must be positive")
        if rows and epoch < rows[-1].epoch:
            raise DataError(file, number, f"epoch {epoch} follows epoch {rows[-1].epoch}")
        rows.append(LatencyRow(number, epoch, (low, high, count)))
    if not rows:
        raise DataError(file, 1, "no bucket follows the header")
    return rows


def merge_latency(file: str, rows: list[LatencyRow], epochs: Container[float]) -> list[Bucket]:
    """One histogram of these epochs, in rising order; they must share bucket limits. In a bucket low <= ns < high."""
    counts: dict[tuple[int, int], int] = {}
    lines: dict[tuple[int, int], int] = {}
    for row in rows:
        if row.epoch in epochs:
            limits = row.bucket[:2]
            counts[limits] = counts.get(limits, 0) + row.bucket[2]
            lines.setdefault(limits, row.line)
    if not counts:
        raise DataError(file, rows[-1].line, "no bucket is left of the epochs that count")
    ordered = sorted(counts)
    for before, after in zip(ordered, ordered[1:]):
        if after[0] < before[1]:
            line = max(lines[before], lines[after])
            raise DataError(file, line, f"bucket {after[0]}..{after[1]} overlaps bucket {before[0]}..{before[1]}")
    return [(low, high, counts[low, high]) for low, high in ordered]


def _lines(file: str, path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            text = stream.read()
    except UnicodeDecodeError:
        raise DataError(file, 1, "not a text file") from None
    except OSError as error:
        raise DataError(file, 0, os.strerror(error.errno or 0)) from None
    if not text:
        raise DataError(file, 1, "empty file")
    lines = text.split("\n")
    if lines[-1]:
        raise DataError(file, len(lines), "the last line is truncated: it has no end of line")
    return lines[:-1]


def _check_header(file: str, header: str, wanted: list[str]) -> None:
    found = header.split(",")
    for name in wanted:
        if name not in found:
            raise DataError(file, 1, f"column {name} is missing")
    for name in found:
        if name not in wanted:
            raise DataError(file, 1, f"unknown column '{name}'")
    if found != wanted:
        raise DataError(file, 1, f"the columns must be {','.join(wanted)}")


def _fields(file: str, number: int, line: str, wanted: int, is_last: bool) -> list[str]:
    fields = line.split(",")
    if len(fields) != wanted:
        cause = "the last line is truncated: " if is_last and len(fields) < wanted else ""
        raise DataError(file, number, f"{cause}{len(fields)} fields instead of {wanted}")
    return fields


def _number(file: str, line: int, name: str, text: str) -> float:
    kind, pattern = ("number", _FLOAT) if name in FLOATS else ("whole number", _WHOLE)
    if not pattern.fullmatch(text):
        raise DataError(file, line, f"{name} must be a {kind}, not '{text}'")
    value = float(text) if name in FLOATS else int(text)
    if not math.isfinite(value):
        raise DataError(file, line, f"{name} must be finite, not '{text}'")
    if value < 0 and not (name in CALLS and value == -1):
        raise DataError(file, line, f"{name} must not be negative, but is {text}")
    return value


def _check_order(file: str, line: int, columns: dict[str, list[float]]) -> None:
    before, epoch = columns["epoch"][-2:]
    if epoch != before + 1:
        raise DataError(file, line, f"epoch {epoch} follows epoch {before}")
    before, time = columns["time_s"][-2:]
    if time <= before:
        raise DataError(file, line, f"time_s {time:g} is not after {before:g}")
