# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text, for a page that needs neither scripts nor other files.

The colours are those of Okabe and Ito, which are distinguishable with any colour vision, without the yellow, which is
hard to see on white. Every series also has its own pattern of dashes, so that a grey print can be read."""

import math
from html import escape
from typing import Callable, NamedTuple, Optional, Sequence

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]
DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "6 2 2 2 2 2"]

WIDTH, HEIGHT = 1080, 340
LEFT, RIGHT, TOP, BOTTOM = 92, 30, 34, 46

# More columns than this cannot be distinguished, and only make the page longer.
MOST_COLUMNS = 420

Point = tuple[float, float]


class Line(NamedTuple):
    """One stroke of the series `series`; several strokes may belong to one."""

    series: int
    points: Sequence[Point]
    width: float = 1.6
    opacity: float = 1.0
    dashed: bool = True


class Axis(NamedTuple):
    """`place` maps a value to 0..1; `ticks` are (value, label)."""

    title: str
    place: Callable[[float], float]
    ticks: list[tuple[float, str]]


def number_label(value: float) -> str:
    """Short: 1500 is 1.5k, so that labels fit beside an axis."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit * (1 - 1e-9):
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.6g}"


def linear(title: str, low: float, high: float, steps: int = 6) -> Axis:
    """Widened to whole steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        margin = abs(low) * 0.05 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    start, span = first * step, (last - first) * step
    digits = max(0, -math.floor(math.log10(step)))
    ticks = [(i * step, f"{i * step:,.{digits}f}") for i in range(first, last + 1)]
    return Axis(title, lambda v: (v - start) / span, ticks)


def time_axis(title: str, low: float, high: float) -> Axis:
    """Not widened: a run fills the width of its plot."""
    nice = linear(title, low, high, 12)
    span = (high - low) or 1.0
    return Axis(title, lambda v: (v - low) / span, [tick for tick in nice.ticks if low <= tick[0] <= high])


def logarithmic(title: str, low: float, high: float, label: Callable[[float], str] = number_label) -> Axis:
    """Whole powers of ten; both limits must be positive."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    stride = -(-(last - first) // 10)
    ticks = [(10.0**i, label(10.0**i)) for i in range(first, last + 1, stride)]
    return Axis(title, lambda v: (math.log10(max(v, 10.0**first)) - first) / (last - first), ticks)


def counting(title: str, high: float) -> Axis:
    """From 0 in powers of ten: log10(1 + v), for counts that are often 0 and sometimes large."""
    last = max(1, math.ceil(math.log10(1 + high) - 1e-9))
    ticks = [(0.0, "0")] + [(10.0**i, number_label(10.0**i)) for i in range(last + 1)]
    span = math.log10(1 + 10.0**last)
    return Axis(title, lambda v: math.log10(1 + max(v, 0)) / span, ticks)


def thin(points: Sequence[Point]) -> list[Point]:
    """At most two points per column, the lowest and the highest, in their order, so that no peak is lost."""
    if len(points) <= 2 * MOST_COLUMNS:
        return list(points)
    size = -(-len(points) // MOST_COLUMNS)
    result: list[Point] = []
    for start in range(0, len(points), size):
        block = points[start : start + size]
        low, high = min(block, key=lambda p: p[1]), max(block, key=lambda p: p[1])
        result += sorted({low, high})
    return result


class Chart:
    """A frame with two axes. Strokes outside it are cut off."""

    def __init__(self, identity: str, title: str, x: Axis, y: Axis, height: int = HEIGHT, left: int = LEFT
                 ) -> None:
        self.identity, self.title, self.x, self.y, self.height, self.left = identity, title, x, y, height, left
        self.inside: list[str] = []
        self.above: list[str] = []

    def at_x(self, value: float) -> float:
        return self.left + self.x.place(value) * (WIDTH - self.left - RIGHT)

    def at_y(self, value: float) -> float:
        return self.height - BOTTOM - self.y.place(value) * (self.height - TOP - BOTTOM)

    def line(self, line: Line) -> None:
        points = " ".join(f"{self.at_x(x):.1f},{self.at_y(y):.1f}" for x, y in thin(line.points))
        opacity = f' opacity="{line.opacity:g}"' if line.opacity < 1 else ""
        self.inside.append(f'<polyline points="{points}" {_stroke(line.series, line.width, line.dashed)}{opacity}/>')

    def shade(self, low: float, high: float, label: str) -> None:
        """A span of x that does not count, such as the warm-up."""
        left, right = self.at_x(low), self.at_x(high)
        self.inside.insert(0, f'<rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
                              f'height="{self.height - TOP - BOTTOM}" class="shade"/>')
        self.above.append(f'<text x="{left + 5:.1f}" y="{TOP + 14}" class="small">{escape(label)}</text>')

    def rule(self, value: float) -> None:
        y = self.at_y(value)
        self.inside.append(f'<line x1="{self.left}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>')

    def legend(self, names: Sequence[str], extra: Optional[list[tuple[str, str]]] = None) -> None:
        """One row above the plot; `extra` are (SVG of a mark at the origin, text)."""
        at = float(self.left)
        marks = [(f'<line x1="0" x2="26" y1="0" y2="0" {_stroke(i, 2.4, True)}/>', n) for i, n in enumerate(names)]
        for mark, text in marks + (extra or []):
            self.above.append(f'<g transform="translate({at:.0f} 17)">{mark}<text x="32" y="4">{escape(text)}</text></g>')
            at += 52 + 7.0 * len(text)

    def svg(self) -> str:
        left, right, bottom = self.left, WIDTH - RIGHT, self.height - BOTTOM
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-labelledby="{self.identity}-title">',
            f'<title id="{self.identity}-title">{escape(self.title)}</title>',
            f'<clipPath id="{self.identity}-clip"><rect x="{left}" y="{TOP}" width="{right - left}" '
            f'height="{bottom - TOP}"/></clipPath>',
        ]
        grid, labels = [], []
        for value, label in self.y.ticks:
            y = self.at_y(value)
            grid.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            labels.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        for value, label in self.x.ticks:
            x = self.at_x(value)
            grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
            labels.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(label)}</text>')
        middle = (TOP + bottom) / 2
        labels.append(f'<text x="{(left + right) / 2:.0f}" y="{self.height - 8}" text-anchor="middle" class="axis">'
                      f"{escape(self.x.title)}</text>")
        labels.append(f'<text transform="translate(15 {middle:.0f}) rotate(-90)" text-anchor="middle" class="axis">'
                      f"{escape(self.y.title)}</text>")
        parts += ['<g class="grid">', *grid, "</g>", f'<g clip-path="url(#{self.identity}-clip)">', *self.inside, "</g>"]
        parts += [f'<path d="M{left} {TOP}V{bottom}H{right}" class="frame"/>', *labels, *self.above, "</svg>"]
        return "\n".join(parts)


def colour(series: int) -> str:
    return COLOURS[series % len(COLOURS)]


def _stroke(series: int, width: float, dashed: bool) -> str:
    # After the last colour the dashes are shifted; otherwise the first and the eighth series would look the same.
    dash = DASHES[(series + series // len(COLOURS)) % len(DASHES)]
    pattern = f' stroke-dasharray="{dash}"' if dashed and dash else ""
    return f'fill="none" stroke="{colour(series)}" stroke-width="{width:g}" stroke-linejoin="round"{pattern}'
