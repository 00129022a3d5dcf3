# SPDX-License-Identifier: Apache-2.0
"""The summary of a comparison and its table."""

import math
from typing import Dict, List, Optional, TextIO

from bench.lib import allocators
from bench.lib import stats


def _paired(ours, theirs) -> Optional[stats.Estimate]:
    """The ratio over the rounds in which both ran."""
    by_round = {sample.round: sample.throughput for sample in theirs}
    both = [(sample.throughput, by_round[sample.round]) for sample in ours if sample.round in by_round]
    return stats.ratio([a for a, _ in both], [b for _, b in both]) if both else None


def summarise(workload, chosen, cells) -> Dict:
    """For each allocator: median, interval, ratio to the best peer, cost above the floor, and memory."""
    samples = {a.name: cells[workload.name, a.name].samples for a in chosen}
    medians = {name: stats.median([s.throughput for s in runs]) for name, runs in samples.items() if runs}
    peers = [a.name for a in chosen if a.is_peer and a.name in medians]
    best = max(peers, key=medians.__getitem__) if peers else None
    floor = medians.get(allocators.FLOOR)
    rows = {}
    for allocator in chosen:
        name = allocator.name
        if name not in medians:
            rows[name] = {"failure": cells[workload.name, name].failure}
            continue
        interval = stats.median_interval([s.throughput for s in samples[name]])
        ratio = _paired(samples[name], samples[best]) if best else None
        rows[name] = {
            "runs": len(samples[name]),
            "ops_per_second": medians[name],
            "interval": [interval.low, interval.high],
            "coverage": interval.coverage,
            "ratio": ratio.value if ratio else None,
            "ratio_interval": [ratio.interval.low, ratio.interval.high] if ratio else None,
            # N threads work at the same time, so each operation takes N times as long.
            "floor_ns": workload.threads * 1e9 * (1 / medians[name] - 1 / floor) if floor else None,
            "peak_rss_kib": stats.median([s.peak_kib for s in samples[name]]),
        }
    return {"best_peer": best, "floor": floor is not None, "allocators": rows}


def means(workloads, summary: Dict[str, Dict]) -> Dict[str, Dict[str, float]]:
    """By group and for all rows ("all"): each allocator's geometric mean of the ratios to the best peer of each row."""
    ratios: Dict[str, Dict[str, List[float]]] = {}
    for workload in workloads:
        for name, cell in summary[workload.name]["allocators"].items():
            if name == allocators.FLOOR or cell.get("ratio") is None:
                continue
            for group in (workload.group, "all"):
                ratios.setdefault(group, {}).setdefault(name, []).append(cell["ratio"])
    return {group: {name: math.exp(sum(map(math.log, values)) / len(values)) for name, values in by_name.items()}
            for group, by_name in ratios.items()}


def worst(rows: Dict) -> float:
    """The least ratio of hakmem's, or of any allocator if it does not take part. Rows with a failure come first."""
    if any("failure" in cell for cell in rows["allocators"].values()):
        return -1.0
    ratios = {name: cell["ratio"] for name, cell in rows["allocators"].items()
              if cell["ratio"] is not None and name != allocators.FLOOR}
    ours = [ratio for name, ratio in ratios.items() if name.startswith("hakmem")]
    return min(ours or ratios.values(), default=0.0)


def worst_first(workloads, summary: Dict[str, Dict]) -> List:
    return sorted(workloads, key=lambda workload: worst(summary[workload.name]))


def _write_means(out: TextIO, found: Dict[str, Dict[str, float]]) -> None:
    names = list(found.get("all", {}))
    if not names:
        return
    groups = [group for group in found if group != "all"]
    groups += ["all"] if len(groups) != 1 else []
    width = max(len(name) for name in names)
    out.write("\nGeometric means of the ratios\n" + " " * width
              + "".join(f"  {group:>8}" for group in groups) + "\n")
    for name in names:
        means_of = [found[group].get(name) for group in groups]
        out.write(name.ljust(width) + "".join("  " + ("-" if mean is None else f"{mean:.3f}").rjust(8)
                                              for mean in means_of) + "\n")


HEADERS = ("workload", "allocator", "Mops/s", "interval", "ratio", "interval", "floor+ns", "RSS MiB")


def _row(name: str, cell: Dict, best: Optional[str]) -> List[str]:
    if "failure" in cell:
        return [name, "FAILED", "", "", "", "", ""]
    low, high = cell["interval"]
    row = [name + (" *" if name == best else "")]
    row += [f"{cell['ops_per_second'] / 1e6:.2f}", f"{low / 1e6:.2f}..{high / 1e6:.2f}"]
    if cell["ratio"] is None:
        row += ["-", "-"]
    else:
        row += [f"{cell['ratio']:.3f}", "{:.3f}..{:.3f}".format(*cell["ratio_interval"])]
    row.append("-" if cell["floor_ns"] is None else f"{cell['floor_ns']:.2f}")
    row.append(f"{cell['peak_rss_kib'] / 1024:.2f}")
    return row


def write(out: TextIO, workloads, summary: Dict[str, Dict]) -> None:
    table = [list(HEADERS)]
    coverages = []
    for workload in worst_first(workloads, summary):
        rows = summary[workload.name]
        title = workload.name
        for name, cell in rows["allocators"].items():
            table.append([title, *_row(name, cell, rows["best_peer"])])
            title = ""
            coverages.append(cell.get("coverage", 1.0))
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADERS))]
    for number, row in enumerate(table):
        if row[0]:
            out.write("-" * (sum(widths) + 2 * len(widths) - 2) + "\n")
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        out.write("  ".join(cells).rstrip() + "\n")
    _write_means(out, means(workloads, summary))
    out.write("\nWorkloads: " + "; ".join(f"{w.name}: {w.text}" for w in workloads) + ".\n")
    low = min(coverages, default=1.0)
    if low >= stats.LEVEL:
        note = f"{100 * low:.1f} % confidence"
    else:
        note = f"{100 * low:.1f} % confidence (95 % needs six rounds)" if low else "none (one round only)"
    out.write(
        "Mops/s: median of the rounds, millions of mallocs and frees a second, all threads together. "
        f"Intervals: {note}.\n"
        "The worst row of hakmem comes first. "
        "ratio: median over the rounds of this run to the best peer's (marked *) run of the same round. "
        "floor+ns: time an operation takes of a thread beyond the no-op floor.\n"
        "RSS: median of the process's peak, harness included.\n"
    )
