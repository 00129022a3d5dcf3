# SPDX-License-Identifier: Apache-2.0
"""The plots of RSS over time on the page of a comparison: one for each workload, both axes linear from 0."""

from html import escape
from typing import Dict, List, Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 500, 250, 58, 16, 12, 42
MOST_TICKS = 6

STYLE = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 4px 24px; }
.pairs figure { margin: 8px 0 12px; } .pairs figcaption { font-size: 14px; }
.thin { fill: none; stroke-width: 1.6; }
"""


def ticks(most: float) -> List[float]:
    """From 0 to `most` or a little more: steps of 1, 2 or 5 times a power of ten, at most MOST_TICKS of them."""
    power = 1e-6
    while True:
        for step in (power, 2 * power, 5 * power):
            count = int(most / step - 1e-9) + 1
            if count < MOST_TICKS:
                return [step * i for i in range(count + 1)]
        power *= 10


def number(value: float) -> str:
    return f"{value:,.10g}"


def svg(title: str, curves: Mapping[str, Mapping[str, Sequence[float]]], colours: Mapping[str, int]) -> str:
    """`curves`: by allocator, "seconds" and "kib". Empty if there is no point."""
    shown = {name: curve for name, curve in curves.items() if curve["seconds"]}
    if not shown:
        return ""
    longest = max(curve["seconds"][-1] for curve in shown.values())
    scale, unit = (1000.0, "ms") if longest < 1 else (1.0, "s")
    across = ticks(max(longest * scale, 1e-3))
    up = ticks(max(max(curve["kib"]) for curve in shown.values()) / 1024)

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds * scale / across[-1]

    def y(mib: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - mib / up[-1])

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="RSS over time, {escape(title)}">']
    for tick in up:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
                   f'<text x="{LEFT - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in across:
        place = LEFT + (WIDTH - LEFT - RIGHT) * tick / across[-1]
        # The last one ends where the plot ends, so that it is not cut off.
        anchor = "end" if tick == across[-1] else "middle"
        out.append(f'<text x="{place + (8 if anchor == "end" else 0):.1f}" y="{HEIGHT - BOTTOM + 16}" '
                   f'text-anchor="{anchor}">{number(tick)}</text>')
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">time since the start, {unit}</text>'
               f'<text x="12" y="{middle:.0f}" transform="rotate(-90 12 {middle:.0f})" text-anchor="middle">RSS, MiB</text>')
    for name, curve in shown.items():
        mib = [kib / 1024 for kib in curve["kib"]]
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(curve["seconds"], mib))
        told = f"{name}: peak {max(mib):,.1f} MiB, last {mib[-1]:,.1f} MiB, {curve['seconds'][-1] * scale:,.3g} {unit}"
        out.append(f'<polyline class="thin s{colours[name]}" points="{path}"><title>{escape(told)}</title></polyline>')
    return "".join(out) + "</svg>"


def section(workloads: Mapping[str, Mapping], order: Sequence[str], colours: Mapping[str, int], legend: str) -> str:
    """The part of the page; empty if no run was sampled."""
    figures = []
    for name in order:
        drawn = svg(name, workloads[name].get("rss_over_time", {}), colours)
        if drawn:
            figures.append(f"<figure><figcaption>{escape(name)}: {escape(workloads[name]['text'])}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    return (f'<h2>RSS over time</h2>{legend}<p class="note">One more run of each, in which the memory of the process was read '
            "every millisecond or, in longer runs, less often; children are not counted. A curve ends where the process ended, so "
            "a shorter one is a faster run, which the samples disturb.</p>"
            f'<div class="pairs">{"".join(figures)}</div>')
