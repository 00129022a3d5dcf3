# SPDX-License-Identifier: Apache-2.0
"""Results that are kept: bench/results/DAY-COMMIT-compare.json, the summary of one run of //bench:compare.

A file of another format, or one that is not a result, is named and refused.
"""

import json
import os
from typing import Dict, List, NamedTuple

FORMAT = 1
MACHINE = ("cpu", "cores", "memory", "page", "kernel", "thp", "load")


class ResultError(Exception):
    """A file that cannot be used; the message is one line and names it."""


class Result(NamedTuple):
    """`rows`: by workload and allocator, what compare_table.summarise computes, without the samples."""

    name: str
    day: str
    commit: str
    machine: Dict[str, str]
    allocators: Dict[str, str]
    rows: Dict[str, Dict[str, Dict]]
    best_peers: Dict[str, str]
    number: int = 0  # of results that were kept before it


def _load(path: str) -> Dict:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultError(f"{path}: not a result of format {FORMAT}")
    return document


def reduce_comparison(path: str, day: str, commit: str) -> Dict:
    """What is kept of the file that `//bench:compare -- --json FILE` wrote."""
    document = _load(path)
    try:
        summaries = {name: workload["summary"] for name, workload in document["workloads"].items()}
        return {
            "format": FORMAT,
            "tool": "compare",
            "day": day,
            "commit": commit,
            "machine": {key: document["machine"][key] for key in MACHINE},
            "rounds": document["rounds"],
            # Without the library's path, which is this machine's.
            "allocators": {name: text.split(" (/")[0] for name, text in document["allocators"].items()},
            "best_peers": {name: summary["best_peer"] for name, summary in summaries.items()},
            "rows": {name: summary["allocators"] for name, summary in summaries.items()},
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path}: not a result of //bench:compare: {error!r}") from error


def read(path: str) -> Result:
    document = _load(path)
    try:
        return Result(os.path.basename(path), document["day"], document["commit"], document["machine"],
                      document["allocators"], document["rows"], document["best_peers"], document.get("number", 0))
    except KeyError as error:
        raise ResultError(f"{path}: no {error} in it") from error


def read_all(folder: str) -> List[Result]:
    """Oldest first. Results of one day are in the order in which they were kept."""
    if not os.path.isdir(folder):
        return []
    found = [read(os.path.join(folder, name)) for name in os.listdir(folder) if name.endswith(".json")]
    return sorted(found, key=lambda result: (result.day, result.number, result.name))
