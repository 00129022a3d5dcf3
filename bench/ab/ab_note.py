# SPDX-License-Identifier: Apache-2.0
"""The result of an A/B comparison as a table on the terminal and as a note for docs/analysis."""

import re
import textwrap
import time
from typing import Dict, List, TextIO

from bench.ab import ab_stats
from bench.ab.ab_arms import Arm
from bench.ab.ab_run import CALL_RUNS, Comparison, Metric, Row
from bench.lib import stats

ALL = "all (geometric mean)"


def scrub(text: str) -> str:
    """Removes the folders of absolute paths, so that a note has no paths of the machine."""
    return re.sub(r"(?<![\w./])(-I|-L|)/(?:[^\s/'\"`:=]+/)+", r"\1", text)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def _figures(metric: Metric, row: Row) -> List[str]:
    return [metric.text(value) for value in row.values] if row.values else [""] * 4


def _interval(ratio: ab_stats.Ratio) -> str:
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"


def hint(row: Row) -> str:
    """How many runs might decide an undecided row; empty for other rows."""
    if row.verdict != ab_stats.UNDECIDED:
        return ""
    if row.ratio.pairs == 0:
        return "the counts vary"
    if row.ratio.pairs < ab_stats.MIN_PAIRS:
        return f"{ab_stats.MIN_PAIRS} runs are the fewest that can decide"
    runs = ab_stats.runs_to_decide(row.ratio)
    if runs is None:
        return f"even {ab_stats.MOST_RUNS} runs would hardly decide"
    return f"about {runs} runs might decide"


def verdict_line(metric: Metric, row: Row) -> str:
    text = f"{metric.title} {row.verdict}: B/A {row.ratio.value:.3f} {_interval(row.ratio)}"
    return text + (f" ({hint(row)})" if hint(row) else "")


def same_library(comparison: Comparison) -> bool:
    a, b = comparison.arms
    return a.digest() == b.digest() and a.settings == b.settings and a.extra == b.extra


def arm_details(arm: Arm, identity: str) -> List[str]:
    """The allocator that was found, the state of its source, and its file."""
    details = [identity]
    if arm.origin:
        details.append("from " + arm.origin)
    if arm.path:
        details.append("SHA-256 " + arm.digest()[:12])
    return details


def looks_line(comparison: Comparison) -> str:
    """A line on what it means for the intervals that runs were added until there was a verdict."""
    if len(comparison.looks) < 2:
        return ""
    looks = ", ".join(str(look) for look in comparison.looks)
    return (f"Runs were added while a verdict was {ab_stats.UNDECIDED}, with looks after {looks}: each interval alone "
            "has 95 %, the chance that one of several looks misleads is higher.")


def kinds(comparison: Comparison) -> List[List[str]]:
    """The median number of system calls of each kind: a row for each workload and arm."""
    rows = []
    for samples in comparison.samples:
        for arm in (0, 1):
            counts = samples.kinds[arm]
            names = list(counts[0])
            rows.append([samples.workload.name, "AB"[arm],
                         *(f"{stats.median([run[name] for run in counts]):.0f}" for name in names)])
    return [["workload", "arm", *names], *rows]


def counters(comparison: Comparison) -> List[List[str]]:
    """hakmem's own statistics after one run: a row for each workload and arm."""
    rows = [[samples.workload.name, "AB"[arm], *(samples.counters[arm][name] for name in comparison.counters)]
            for samples in comparison.samples for arm in (0, 1)]
    return [["workload", "arm", *comparison.counters], *rows]


# ---- Terminal --------------------------------------------------------------------------------------------------------


def _print_table(out: TextIO, table: List[List[str]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        out.write("  ".join(cells).rstrip() + "\n")


def _columns(metric: Metric) -> List[str]:
    return [f"A mean, {metric.unit}", "A median", "B mean", "B median", "B/A",
            "95 % interval" if metric.timed else "range", "verdict"]


def write_table(out: TextIO, comparison: Comparison) -> None:
    for arm, identity in zip(comparison.arms, comparison.identities):
        out.write(f"  {arm.letter.upper()} = {arm.label}: {', '.join(arm_details(arm, identity))}\n")
    if same_library(comparison):
        out.write("  Both arms are the same library with the same settings.\n")
    for metric in comparison.metrics:
        rows = comparison.summary(metric)
        out.write(f"\n{metric.title} ({'lower' if metric.lower_is_better else 'higher'} is better)\n")
        table = [["workload", *_columns(metric)]]
        for row in rows:
            name = row.workload.name if row.workload else ALL
            table.append([name, *_figures(metric, row), f"{row.ratio.value:.3f}", _interval(row.ratio), row.verdict])
        _print_table(out, table)
        if not metric.timed:
            out.write("\n")
            _print_table(out, kinds(comparison))
    if comparison.counters:
        out.write("\nCounters of one run (hak_stats)\n")
        _print_table(out, counters(comparison))
    out.write("\n")
    for metric in comparison.metrics:
        out.write(verdict_line(metric, comparison.overall(metric)) + "\n")
    if looks_line(comparison):
        out.write(looks_line(comparison) + "\n")


# ---- Note ------------------------------------------------------------------------------------------------------------


def _markdown_table(table: List[List[str]]) -> str:
    head, *rows = table
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _method(comparison: Comparison) -> str:
    text = []
    if comparison.timed:
        text.append(f"{comparison.rounds} rounds; in each, every workload ran once on A and once on B, in alternating "
                    "order. The ratio is the median over the rounds of B to A; the interval is the percentile "
                    f"bootstrap's ({ab_stats.RESAMPLES:,} resamples, fixed seed).")
    if len(comparison.timed) < len(comparison.metrics):
        text.append(f"System calls were counted in {CALL_RUNS} further runs, from exec to exit, loader and harness "
                    "included; the ratio's range is over all pairs.")
    if looks_line(comparison):
        text.append(looks_line(comparison))
    if comparison.quick:
        text.append("Short runs (`--quick`): no ground for claims.")
    return " ".join(text)


def _wrap(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def note(title: str, comparison: Comparison, facts: Dict[str, str], command: str) -> str:
    """The Markdown text, in the form of the other notes in docs/analysis."""
    parts = ["<!-- SPDX-License-Identifier: Apache-2.0 -->", f"# {title}", "", "**What.**"]
    for arm, identity in zip(comparison.arms, comparison.identities):
        parts.append(_wrap(f"- {arm.letter.upper()}: `{arm.label}` ({', '.join(arm_details(arm, identity))})"))
    if same_library(comparison):
        parts.append("- Both arms are the same library with the same settings.")
    date = time.strftime("%Y-%m-%d", time.gmtime())
    parts += ["", _wrap(
        f"**Measured.** {date}, {facts['cores']}-core {facts['cpu']}, {facts['memory']}, pages of {facts['page']}, "
        f"{facts['kernel']}, transparent huge pages {facts['thp']}, load {facts['load']} at the start; `random_mixed` "
        f"built by {comparison.compiler}; environment: {facts['environment']}.")]
    parts += ["", _wrap(_method(comparison))]
    for metric in comparison.metrics:
        better = "lower is better" if metric.lower_is_better else "higher is better"
        table = [[f"{metric.title}, {better}", *_columns(metric)]]
        for row in comparison.summary(metric):
            name = f"{row.workload.name}: {row.workload.text}" if row.workload else ALL
            table.append([name, *_figures(metric, row), f"{row.ratio.value:.3f}", _interval(row.ratio),
                          row.verdict + (f"; {hint(row)}" if hint(row) else "")])
        parts += ["", _markdown_table(table)]
        if not metric.timed:
            parts += ["", _markdown_table(kinds(comparison))]
    if comparison.counters:
        parts += ["", "**Counters** of one run of each (`hak_stats`):", "", _markdown_table(counters(comparison))]
    parts += ["", _wrap("**Verdict.** " + " ".join(
        verdict_line(metric, comparison.overall(metric)) + "." for metric in comparison.metrics))]
    parts += ["", "**Command.** GO, NO-GO and NEUTRAL are those of [README.md](../README.md).", "", f"    {command}"]
    return scrub("\n".join(parts)) + "\n"


def index_line(file: str, title: str) -> str:
    """The row for the table in docs/analysis/README.md."""
    return f"| [{file}](decisions/{file}) | {scrub(title)} |"
