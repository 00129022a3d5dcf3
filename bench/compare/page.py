# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison: its tables and plots in one HTML file without scripts, links or other files."""

import math
from html import escape
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from bench.compare import rss_plot

FLOOR = "noop"
# Colours that differ in brightness too, for light and dark; other allocators take the last ones.
COLOURS = {
    "hakmem-fast": ("#0550ae", "#79c0ff"), "hakmem-standard": ("#2f81f7", "#388bfd"), "glibc": ("#57606a", "#b1bac4"),
    "mimalloc": ("#bc4c00", "#ffa657"), "jemalloc": ("#116329", "#56d364"), "tcmalloc": ("#99286e", "#f28ccb"),
    "mimalloc3": ("#953800", "#ffc680"), "snmalloc": ("#7d4e00", "#e3b341"), "rpmalloc": ("#4c2889", "#d2a8ff"),
}
OTHERS = (("#1f2328", "#f0f6fc"), ("#82071e", "#ff7b72"), ("#0a3069", "#a5d6ff"), ("#3b2300", "#c69026"))

STYLE = """
:root { --text: #1f2328; --muted: #59636e; --line: #d1d9e0; --row: #f6f8fa; --bad: #b31d28; --back: #fff; }
body { margin: 0 auto; max-width: 1080px; padding: 24px; color: var(--text); background: var(--back);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 6px; }
p { margin: 4px 0 10px; max-width: 105ch; } .note { color: var(--muted); font-size: 13.5px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; margin: 6px 0; }
th, td { padding: 4px 11px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
tr:nth-child(even) td { background: var(--row); } td.bad { color: var(--bad); font-weight: 600; }
td small { color: var(--muted); font-weight: 400; }
figure { margin: 8px 0 20px; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 12px; fill: var(--muted); } .grid { stroke: var(--line); stroke-width: 1; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13.5px; }
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 3px; }
.line { fill: none; stroke-width: 2; }
"""
DARK = ("--text: #f0f6fc; --muted: #9198a1; --line: #3d444d; --row: #151b23; --bad: #ff7b72; --back: #0d1117;")

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 300, 64, 16, 12, 44


class Chart(NamedTuple):
    title: str
    x: str
    y: str
    ticks: List[str]  # the names of the places on the horizontal axis, which have equal distances
    lines: Dict[str, List[Optional[float]]]  # by allocator, a value for each place


def short(number: float) -> str:
    """400, 20k, 4M; 16, 1Ki."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if number >= size and number % size == 0:
            return f"{number / size:.0f}{unit}"
    for unit, size in (("Mi", 1 << 20), ("Ki", 1 << 10)):
        if number >= size and number % size == 0:
            return f"{number / size:.0f}{unit}"
    return f"{number:g}"


# Title, prefix of the workloads' names, the property that differs, its name.
SERIES = (
    ("Throughput over the number of slots, 16..1,039 B", "mixed-", "ws", "slots"),
    ("Throughput over the number of slots, sizes of C++ programs", "cxx-", "ws", "slots"),
    ("Throughput over the number of slots, heavy-tailed sizes", "heavy-", "ws", "slots"),
    ("Throughput over the size, batches freed last first", "hot-lifo-", "size", "bytes"),
    ("Throughput over the size, batches freed first first", "hot-fifo-", "size", "bytes"),
    ("Throughput over the size, batches freed at random", "hot-random-", "size", "bytes"),
    ("Throughput over the number of threads", "many-", "threads", "threads"),
)


def throughput_charts(workloads: Dict[str, Dict], names: Sequence[str]) -> List[Chart]:
    """The series of which at least two workloads ran."""
    charts = []
    for title, prefix, key, axis in SERIES:
        rows = sorted((row for name, row in workloads.items() if name.startswith(prefix)), key=lambda row: row[key])
        if len(rows) < 2:
            continue
        lines = {}
        for name in names:
            cells = [row["summary"]["allocators"].get(name, {}) for row in rows]
            lines[name] = [cell["ops_per_second"] / 1e6 if "ops_per_second" in cell else None for cell in cells]
        charts.append(Chart(title, axis, "Mops/s", [short(row[key]) for row in rows], lines))
    return charts


def latency_charts(document: Dict) -> List[Chart]:
    """From a result of //bench:latency: the points of each kind of call, alone and beside other work."""
    charts = []
    for beside, kinds in document["summary"].items():
        for kind, rows in kinds.items():
            if kind == "clock" or not rows:
                continue
            title = kind if beside == "none" else f"{kind} beside {beside}"
            charts.append(Chart(title, "part of the calls", "ns", list(document["points"]), {
                name: [row[point] for point in document["points"]] for name, row in rows.items()}))
    return charts


def _scale(values: Sequence[float]) -> Tuple[List[float], float, float]:
    """Ticks at 1, 2, 5 times powers of ten, and the logarithms of the axis's ends."""
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = (low - 0.1, high + 0.1) if high - low > 0.02 else (low - 0.3, high + 0.3)
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps
             if low <= math.log10(step * 10.0**power) <= high]
    return ticks, low, high


def _svg(chart: Chart, colours: Dict[str, int]) -> str:
    values = [value for line in chart.lines.values() for value in line if value]
    if not values:
        return ""
    ticks, low, high = _scale(values)

    def x(place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / len(chart.ticks)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(value)) / (high - low)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">']
    for tick in ticks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
                   f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for place, text in enumerate(chart.ticks):
        out.append(f'<text x="{x(place):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x)}</text>'
               f'<text x="14" y="{HEIGHT / 2 - 10:.0f}" transform="rotate(-90 14 {HEIGHT / 2 - 10:.0f})" '
               f'text-anchor="middle">{escape(chart.y)}</text>')
    for name, line in chart.lines.items():
        points = [(x(place), y(value), value, chart.ticks[place]) for place, value in enumerate(line) if value]
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height, _, _ in points)
        out.append(f'<polyline class="line s{colours[name]}" points="{path}"/>')
        for at, height, value, tick in points:
            out.append(f'<circle class="d{colours[name]}" cx="{at:.1f}" cy="{height:.1f}" r="3.5"><title>{escape(name)}, '
                       f'{escape(tick)}: {value:,.4g} {escape(chart.y)}</title></circle>')
    return "".join(out) + "</svg>"


def check_latency(document: Dict) -> None:
    """Draws all of a result of //bench:latency, so that a wrong one is noticed before the rounds and not after them."""
    for chart in latency_charts(document):
        _svg(chart, {name: 0 for name in chart.lines})
    document["allocators"].items()


def _legend(names: Sequence[str], colours: Dict[str, int]) -> str:
    return '<div class="legend">' + "".join(
        f'<span><span class="swatch b{colours[name]}"></span>{escape(name)}</span>' for name in names) + "</div>"


def _colour_rules(names: Sequence[str]) -> str:
    light, dark, rules = [], [], []
    others = iter(OTHERS * (len(names) // len(OTHERS) + 1))
    for i, name in enumerate(names):
        pair = COLOURS.get(name) or next(others)
        light.append(f"--c{i}: {pair[0]};")
        dark.append(f"--c{i}: {pair[1]};")
        rules += [f".{kind}{i} {{ {what}: var(--c{i}); }}"
                  for kind, what in (("s", "stroke"), ("d", "fill"), ("b", "background"))]
    return (f":root {{ {' '.join(light)} }}\n" + "\n".join(rules)
            + f"\n@media (prefers-color-scheme: dark) {{ :root {{ {DARK} {' '.join(dark)} color-scheme: dark; }} }}\n")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML, the first of a row is its name; a cell may bring its own <td>."""
    body = "".join("<tr>" + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row) + "</tr>"
                   for row in rows)
    return ('<div class="scroll"><table><tr>' + "".join(f"<th>{escape(text)}</th>" for text in head)
            + f"</tr>{body}</table></div>")


def _ratio_cell(cell: Dict, best: bool) -> str:
    if "failure" in cell:
        return '<td class="bad">failed</td>'
    if not cell or cell["ratio"] is None:
        return "<td>-</td>"
    low, high = cell["ratio_interval"]
    # A mark besides the colour, for rows that are slower with their whole interval.
    slower = high < 1
    text = f"{'▼ ' if slower else ''}{cell['ratio']:.3f}{' *' if best else ''} <small>{low:.2f}..{high:.2f}</small>"
    return f'<td class="bad">{text}</td>' if slower else f"<td>{text}</td>"


def page(document: Dict, order: Sequence[str], latency: Optional[Dict] = None) -> str:
    """`document`: what compare --json writes; `order`: its workloads, the worst first; `latency`: a result of
    //bench:latency."""
    workloads = document["workloads"]
    names = [name for name in document["allocators"] if name != FLOOR]
    if latency:
        names += [name for name in latency["allocators"] if name not in names]
    colours = {name: i for i, name in enumerate(names)}
    facts = document["machine"]
    quick = ", with --quick: too short for claims" if document.get("quick") else ""
    out = ['<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
           '<meta name="viewport" content="width=device-width"><title>hakmem and its peers</title>'
           f"<style>{STYLE}{rss_plot.STYLE}{_colour_rules(names)}</style></head><body>\n<h1>hakmem and its peers</h1>",
           f'<p class="note">{escape(facts["cpu"])}, {escape(facts["cores"])} cores, {escape(facts["memory"])}; '
           f'{escape(facts["kernel"])}, transparent huge pages {escape(facts["thp"])}, '
           f'load {escape(facts["load"])} at the start; {document["rounds"]} rounds in {document["seconds"]:.0f} s{quick}.</p>',
           _table(("allocator", "version"), [(escape(name), escape(text.split(" (/")[0]))
                                             for name, text in document["allocators"].items() if name != FLOOR])]
    if document["missing"]:
        out.append(f'<p class="note">Missing: {escape("; ".join(document["missing"]))}.</p>')
    means = document["geometric_means"]
    if means:
        groups = [group for group in means if group != "all"] + (["all"] if len(means) > 2 else [])
        out.append("<h2>Geometric means</h2><p>Of the ratios to the best peer of each row, by group.</p>" + _table(
            ["allocator", *groups],
            [[escape(name)] + [f"{means[group][name]:.3f}" if name in means[group] else "-" for group in groups]
             for name in names if name in means["all"]]))
    charts = throughput_charts(workloads, [name for name in names if name in document["allocators"]])
    for title, drawn in (("Throughput", charts), ("Latency", latency_charts(latency) if latency else [])):
        if not drawn:
            continue
        out.append(f"<h2>{title}</h2>{_legend(names, colours)}"
                   '<p class="note">Medians of the rounds; the vertical axis is logarithmic.</p>')
        out += [f"<figure><figcaption>{escape(chart.title)}</figcaption>{_svg(chart, colours)}</figure>"
                for chart in drawn]
    shown = [name for name in names if name in document["allocators"]]
    out.append(rss_plot.section(workloads, order, colours, _legend(shown, colours)))
    out.append("<h2>Rows</h2><p>Ratio of the throughput to the best peer (*) of the row, with its interval; ▼ marks what "
               "is slower with the whole interval. The worst row of hakmem comes first.</p>")
    out.append(_table(["workload", *shown], [
        [f'<td title="{escape(workloads[name]["text"])}">{escape(name)}</td>']
        + [_ratio_cell(workloads[name]["summary"]["allocators"].get(other, {}),
                       other == workloads[name]["summary"]["best_peer"]) for other in shown] for name in order]))
    out.append("<h2>Memory</h2><p>Median of the processes' peak RSS in MiB, harness included.</p>")
    out.append(_table(["workload", *shown], [
        [escape(name)] + [f"{cell['peak_rss_kib'] / 1024:.1f}" if "peak_rss_kib" in cell else "-"
                          for cell in (workloads[name]["summary"]["allocators"].get(other, {}) for other in shown)]
        for name in order]))
    if document["left_out"]:
        out.append('<p class="note">Left out: ' + escape("; ".join(
            f"{group}: {', '.join(rows)}" for group, rows in document["left_out"].items())) + ".</p>")
    return "\n".join(out) + "\n</body></html>\n"
