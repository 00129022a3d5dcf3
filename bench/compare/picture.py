#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The picture of speed and memory in README.md, from the first table of the scorecard: picture.py [--check]

Writes docs/pictures/compare-light.svg and compare-dark.svg; with --check it only reports whether they are up to date.
Exit status 0; 1: they are not up to date; 2: a wrong call, or a table that cannot be read."""

import pathlib
import re
import sys
from typing import Dict, List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "docs/analysis/scorecards/scorecard.md"
FOLDER = ROOT / "docs/pictures"

OURS = "hakmem-standard"
PEERS = ("glibc", "mimalloc", "jemalloc", "tcmalloc")
THEMES = {
    "light": {"text": "#1f2328", "muted": "#59636e", "line": "#d1d9e0", "row": "#f6f8fa", "hakmem": "#0969da",
              "glibc": "#6e7781", "mimalloc": "#d1580a", "jemalloc": "#1a7f4b", "tcmalloc": "#b0458a"},
    "dark": {"text": "#f0f6fc", "muted": "#9198a1", "line": "#3d444d", "row": "#151b23", "hakmem": "#4493f8",
             "glibc": "#b1bac4", "mimalloc": "#ffa657", "jemalloc": "#56d364", "tcmalloc": "#f28ccb"},
}

WIDTH, LABELS, PANEL, NUMBERS, ROW, TOP = 880, 92, 300, 88, 30, 84


class Value(NamedTuple):
    speed: float  # Mops/s
    memory: float  # MiB


class Panel(NamedTuple):
    title: str
    better: str
    unit: str
    field: str
    ticks: List[float]
    end: float


PANELS = (
    Panel("Throughput", "right is faster", "Mops/s", "speed", [0, 0.25, 0.5, 0.75, 1], 1.08),
    Panel("Peak memory (RSS)", "left is less", "MiB", "memory", [0, 1, 2, 3, 4], 4.3),
)


def read(text: str) -> Dict[str, Dict[str, Value]]:
    """Workload -> allocator -> values, of the first table in a block of code."""
    block = re.search(r"^```\n(workload .*?)^```$", text, re.M | re.S)
    rows: Dict[str, Dict[str, Value]] = {}
    name = ""
    for line in block[1].splitlines()[1:] if block else []:
        match = re.match(r"(\S*) +([a-z][\w-]*)(?: \*)? +([\d.]+) .* ([\d.]+)$", line)
        if match:
            name = match[1] or name
            rows.setdefault(name, {})[match[2]] = Value(float(match[3]), float(match[4]))
    wanted = {OURS, *PEERS}
    if not rows or any(wanted - set(row) for row in rows.values()):
        raise ValueError(f"{TABLE.name}: the first table does not have a row of each allocator for each workload")
    return rows


def mark(allocator: str, x: float, y: float, colour: str) -> str:
    """Each allocator has its own shape, because not everybody can tell the colours apart."""
    if allocator == "glibc":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}"/>'
    if allocator == "mimalloc":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    if allocator == "jemalloc":
        return f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z" fill="{colour}"/>'
    return f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" fill="{colour}"/>'


def draw(rows: Dict[str, Dict[str, Value]], theme: Dict[str, str]) -> str:
    bottom = TOP + ROW * len(rows)
    height = bottom + 34
    out = [
        "<!-- SPDX-License-Identifier: Apache-2.0; written by bench/compare/picture.py -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        'font-family="-apple-system,Segoe UI,Liberation Sans,Helvetica,Arial,sans-serif" font-size="13">',
        "<title>hakmem beside glibc, mimalloc, jemalloc and tcmalloc: throughput and peak memory</title>",
    ]

    def write(x: float, y: float, text: str, colour: str = "text", anchor: str = "start", more: str = "") -> None:
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="{theme[colour]}" text-anchor="{anchor}"{more}>{text}</text>')

    # The key.
    out.append(f'<line x1="{LABELS + 4}" x2="{LABELS + 4}" y1="8" y2="22" stroke="{theme["hakmem"]}" stroke-width="2.5"/>')
    write(LABELS + 12, 20, "hakmem STANDARD = 1", "hakmem", more=' font-weight="600"')
    x = LABELS + 216.0  # fonts differ in width
    for peer in PEERS:
        out.append(mark(peer, x, 15.5, theme[peer]))
        write(x + 10, 20, peer)
        x += 94
    for row in range(0, len(rows), 2):
        out.append(f'<rect x="0" y="{TOP + ROW * row}" width="{WIDTH}" height="{ROW}" fill="{theme["row"]}"/>')
    for number, name in enumerate(rows):
        write(4, TOP + ROW * number + ROW / 2 + 4.5, name)
    for number, panel in enumerate(PANELS):
        left = LABELS + number * (PANEL + NUMBERS + 6)
        scale = PANEL / panel.end
        write(left, 50, panel.title, more=' font-weight="600"')
        write(left, 68, panel.better, "muted", more=' font-size="12"')
        write(left + PANEL + NUMBERS - 12, 50, "hakmem,", "muted", "end", ' font-size="12"')
        write(left + PANEL + NUMBERS - 12, 66, panel.unit, "muted", "end", ' font-size="12"')
        for tick in panel.ticks:
            at = left + tick * scale
            out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}" stroke="{theme["line"]}"/>')
            write(at, bottom + 18, f"{tick:g}", "muted", "middle", ' font-size="12"')
        at = left + scale
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 4}" y2="{bottom}" stroke="{theme["hakmem"]}" stroke-width="2.5"/>')
        for place, row in enumerate(rows.values()):
            y = TOP + ROW * place + ROW / 2
            ours = getattr(row[OURS], panel.field)
            for line, peer in enumerate(PEERS):
                ratio = getattr(row[peer], panel.field) / ours
                if ratio > panel.end:
                    raise ValueError(f"{panel.title}: {peer} is beyond the axis: {ratio:.2f}")
                # Each allocator on its own line, so that no mark hides another.
                out.append(mark(peer, left + ratio * scale, y + (line - 1.5) * 5, theme[peer]))
            write(left + PANEL + NUMBERS - 12, y + 4.5, f"{ours:.1f}", anchor="end")
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main(arguments: List[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: picture.py [--check]", file=sys.stderr)
        return 2
    try:
        rows = read(TABLE.read_text(encoding="utf-8"))
        pictures = {FOLDER / f"compare-{name}.svg": draw(rows, theme) for name, theme in THEMES.items()}
    except ValueError as error:
        print(f"picture.py: {error}", file=sys.stderr)
        return 2
    if not arguments:
        FOLDER.mkdir(exist_ok=True)
        for path, text in pictures.items():
            path.write_text(text, encoding="utf-8")
        return 0
    old = [path for path, text in pictures.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in old:
        print(f"{path.relative_to(ROOT)} is out of date: python3 bench/compare/picture.py")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
