# SPDX-License-Identifier: Apache-2.0
"""The page of a soak run: its tables and plots in one HTML file without scripts, links or other files."""

from html import escape
from statistics import fmean, median
from typing import Callable, Optional, Sequence

from bench.soak import soak_plot
from bench.soak import soak_report
from bench.soak import soak_stats
from bench.soak.soak_plot import Axis, Chart, Line
from bench.soak.soak_report import Finding, Soak

STYLE = """
body { margin: 0 auto; max-width: 1128px; padding: 24px; color: #1a1a1a; background: #fff;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 34px 0 6px; }
p { margin: 4px 0 10px; max-width: 100ch; } .note { color: #555; font-size: 13.5px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; margin: 6px 0; }
th, td { padding: 5px 12px; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #666; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.good { color: #005a8c; font-weight: 600; } td.bad { color: #a83c00; font-weight: 600; }
.swatch { display: inline-block; width: 11px; height: 11px; margin-right: 7px; border-radius: 2px; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 12.5px; fill: #333; } svg text.axis { font-size: 13px; }
svg text.small { font-size: 11.5px; fill: #666; }
.grid line { stroke: #e6e6e6; stroke-width: 1; } .frame { fill: none; stroke: #555; stroke-width: 1; }
.shade { fill: #000; opacity: 0.06; } .rule { stroke: #777; stroke-width: 1; }
"""

GOOD = {soak_report.STEADY, soak_report.NEGLIGIBLE, soak_report.MET}
BAD = {soak_report.DRIFTING, soak_report.UNCLEAR, soak_report.NOT_MET}
# A tick and a cross, so that the difference is not only the colour.
GOOD_MARK, BAD_MARK = "\u2713\u00a0", "\u2717\u00a0"

BINS = 160
ROW = 62  # pixels of a row of the distribution


class Clock:
    """The unit that suits the longest run, and the end of the warm-up in it."""

    def __init__(self, soaks: list[Soak]) -> None:
        last = max(soak.whole.columns["time_s"][-1] for soak in soaks)
        self.seconds, self.unit = (3600, "hours") if last > 7200 else (60, "minutes") if last > 180 else (1, "seconds")
        self.high = last / self.seconds
        self.warm = max(soak.run.columns["time_s"][0] for soak in soaks) / self.seconds

    def axis(self) -> Axis:
        return soak_plot.time_axis(f"time, {self.unit}", 0.0, self.high)

    def points(self, times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
        return [(t / self.seconds, v) for t, v in zip(times, values)]


def time_chart(identity: str, title: str, soaks: list[Soak], clock: Clock, y: Axis, lines: list[Line]) -> Chart:
    chart = Chart(identity, title, clock.axis(), y)
    if any(len(soak.run) < len(soak.whole) for soak in soaks):
        chart.shade(0.0, clock.warm, "warm-up")
    for line in lines:
        chart.line(line)
    chart.legend([soak.name for soak in soaks])
    return chart


def smoothed(series: int, points: list[tuple[float, float]], average: Callable[[Sequence[float]], float]) -> list[Line]:
    """Every epoch as a thin, pale line, with the running average above it."""
    middle = soak_stats.running([y for _, y in points], max(len(points) // 60, 1), average)
    opacity = 0.3 if len(points) < soak_plot.MOST_COLUMNS else 0.18
    pale = Line(series, points, width=0.8, opacity=opacity, dashed=False)
    return [pale, Line(series, [(x, y) for (x, _), y in zip(points, middle)], width=2)]


def rss_chart(soaks: list[Soak], clock: Clock) -> Chart:
    lines = []
    for i, soak in enumerate(soaks):
        columns = soak.whole.columns
        lines.append(Line(i, clock.points(columns["time_s"], [v / 1024 for v in columns["rss_kib"]])))
    top = max(y for line in lines for _, y in line.points)
    return time_chart("rss", "RSS over time", soaks, clock, soak_plot.linear("RSS, MiB", 0, top), lines)


def drift_chart(soaks: list[Soak], findings: list[Finding], clock: Clock) -> Chart:
    """RSS less its own median, after the warm-up, so that a drift of some KiB is visible beside levels of many MiB."""
    lines: list[Line] = []
    for i, (soak, finding) in enumerate(zip(soaks, findings)):
        times, values = soak.run.columns["time_s"], soak.run.columns["rss_kib"]
        change = [v - finding.rss_median for v in values]
        lines.append(Line(i, clock.points(times, change), width=0.9, opacity=0.45, dashed=False))
        per_second = finding.rss.value / soak_report.HOUR
        offset = median(v - per_second * t for t, v in zip(times, change))
        ends = [times[0], times[-1]]
        lines.append(Line(i, clock.points(ends, [per_second * t + offset for t in ends]), width=2.4))
    heights = [y for line in lines for _, y in line.points]
    y = soak_plot.linear("RSS less its median, KiB", min(heights), max(heights))
    chart = time_chart("drift", "Drift of RSS", soaks, clock, y, lines)
    chart.rule(0)
    return chart


def throughput_chart(soaks: list[Soak], clock: Clock) -> Chart:
    lines: list[Line] = []
    for i, soak in enumerate(soaks):
        columns = soak.whole.columns
        lines += smoothed(i, clock.points(columns["time_s"], [v / 1e6 for v in columns["ops_per_s"]]), median)
    lines.sort(key=lambda line: line.opacity)  # pale lines first, below the medians
    top = max(y for line in lines for _, y in line.points)
    y = soak_plot.linear("throughput, Mops/s", 0, top)
    return time_chart("throughput", "Throughput over time", soaks, clock, y, lines)


def distribution_chart(soaks: list[Soak], findings: list[Finding]) -> Chart:
    """A row for each allocator: how many epochs had which rate, with the slowest percent filled."""
    rates = [[v / 1e6 for v in soak.run.columns["ops_per_s"]] for soak in soaks]
    low, high = min(map(min, rates)), max(map(max, rates))
    x = soak_plot.linear("throughput of an epoch, Mops/s", low, high)
    count = len(soaks)
    y = Axis("", lambda v: v / count, [])
    height = soak_plot.TOP + soak_plot.BOTTOM + ROW * count
    chart = Chart("distribution", "Distribution of throughput over epochs", x, y, height, 150)
    left, width = x.ticks[0][0], x.ticks[-1][0] - x.ticks[0][0]
    for i, (soak, finding, values) in enumerate(zip(soaks, findings, rates)):
        bins = [0] * BINS
        for value in values:
            bins[min(int((value - left) / width * BINS), BINS - 1)] += 1
        base, scale = chart.at_y(count - 1 - i), (ROW - 20) / max(bins)
        colour = soak_plot.colour(i)
        edge = finding.ops_p1 / 1e6
        for place, amount in enumerate(bins):
            if amount:
                start, end = left + place * width / BINS, left + (place + 1) * width / BINS
                tall = max(amount * scale, 2)
                opacity, wide = 1 if start <= edge else 0.35, chart.at_x(end) - chart.at_x(start)
                chart.inside.append(
                    f'<rect x="{chart.at_x(start):.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                    f'fill="{colour}" opacity="{opacity:g}"/>'
                )
        chart.rule(count - 1 - i)
        for value, dash in ((finding.ops_p01, "1 2"), (finding.ops_p1, "4 2"), (finding.ops_median, "")):
            at = chart.at_x(value / 1e6)
            chart.inside.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{base - ROW + 12:.1f}" y2="{base:.1f}" '
                                f'stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash or "none"}"/>')
        chart.above.append(f'<text x="{chart.left - 8}" y="{base - 8:.1f}" text-anchor="end">{escape(soak.name)}</text>')
    upright = '<line x1="20" x2="20" y1="-9" y2="7" stroke="#333" stroke-width="1.6" stroke-dasharray="{}"/>'
    block = '<rect x="14" y="-6" width="13" height="12" fill="#333" opacity="{}"/>'
    chart.legend([], [(upright.format("1 2"), "p0.1"), (upright.format("4 2"), "p1"), (upright.format("none"), "median"),
                      (block.format(1), "slowest 1 %"), (block.format(0.35), "other epochs")])
    return chart


def latency_chart(soaks: list[Soak]) -> Optional[Chart]:
    """The share of calls that took longer: the complement of the distribution function, on logarithmic axes."""
    lines, rarest = [], 1.0
    for i, soak in enumerate(soaks):
        if soak.buckets:
            total = left = sum(count for _, _, count in soak.buckets)
            points = [(max(soak.buckets[0][0], 1), 1.0)]
            for _, high, count in soak.buckets:
                left -= count
                # The last step would go to 0, which a logarithmic axis does not have.
                points.append((max(high, 1), max(left, 0.5) / total))
            rarest = min(rarest, 1 / total)
            lines.append(Line(i, points, width=2))
    if not lines:
        return None
    spans = [x for line in lines for x, _ in line.points]
    x = soak_plot.logarithmic("latency of a call", min(spans), max(spans), time_label)
    y = soak_plot.logarithmic("share of calls that took longer", rarest, 1.0, share_label)
    chart = Chart("latency", "Latency of a call, complementary distribution", x, y, 400)
    for line in lines:
        chart.line(line)
    chart.legend([soak.name for soak in soaks])
    return chart


def count_chart(identity: str, title: str, soaks: list[Soak], clock: Clock, of: Callable[[Soak], Optional[list[float]]]
                ) -> Optional[Chart]:
    lines: list[Line] = []
    for i, soak in enumerate(soaks):
        values = of(soak)
        if values is not None:
            lines += smoothed(i, clock.points(soak.whole.columns["time_s"], values), fmean)
    if not lines:
        return None
    lines.sort(key=lambda line: line.opacity)
    top = max(y for line in lines for _, y in line.points)
    return time_chart(identity, title, soaks, clock, soak_plot.counting("number in an epoch", top), lines)


def faults(soak: Soak) -> list[float]:
    columns = soak.whole.columns
    return [minor + major for minor, major in zip(columns["minor_faults"], columns["major_faults"])]


def time_label(nanoseconds: float) -> str:
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "\u00b5s")):
        if nanoseconds >= limit:
            return f"{nanoseconds / limit:g} {unit}"
    return f"{nanoseconds:g} ns"


def share_label(share: float) -> str:
    return f"1 in {soak_plot.number_label(1 / share)}" if share < 0.05 else f"{share * 100:g} %"


# ---- The page --------------------------------------------------------------------------------------------------------


def table_html(table: soak_report.Table, findings: list[Finding]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header())
    body = []
    for i, row in enumerate(table.rows(findings)):
        cells = [f'<td><span class="swatch" style="background:{soak_plot.colour(i)}"></span>{escape(row[0])}</td>']
        for cell in row[1:]:
            mark, kind = ("", "")
            if cell in GOOD:
                mark, kind = GOOD_MARK, ' class="good"'
            elif cell in BAD:
                mark, kind = "? " if cell == soak_report.UNCLEAR else BAD_MARK, ' class="bad"'
            cells.append(f"<td{kind}>{mark}{escape(cell)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = "\n".join(body)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def figure(title: str, caption: str, chart: Optional[Chart], missing: str = "") -> str:
    content = f"<figure>{chart.svg()}</figure>" if chart else f"<p><em>{escape(missing)}</em></p>"
    return f'<h2>{escape(title)}</h2>\n<p class="note">{escape(caption)}</p>\n{content}'


def facts(soaks: list[Soak], findings: list[Finding], reference: Optional[str], selection: str) -> str:
    hours = sorted(finding.hours for finding in findings)
    epochs = sorted(len(soak.whole) for soak in soaks)

    def span(low: float, high: float, form: str) -> str:
        return format(low, form) if format(low, form) == format(high, form) else f"{low:{form}} to {high:{form}}"

    phases = list(dict.fromkeys(phase for soak in soaks for phase in soak.whole.phases))
    more = f" and {len(phases) - 8} more" if len(phases) > 8 else ""
    return (
        f"{len(soaks)} allocators, {span(epochs[0], epochs[-1], 'd')} epochs each. The tables count the epochs {selection}: "
        f"{span(hours[0], hours[-1], '.2f')} hours. Reference: {reference or 'none'}. "
        f"Phases: {', '.join(phases[:8])}{more}."
    )


def page(soaks: list[Soak], findings: list[Finding], reference: Optional[str], selection: str) -> str:
    clock = Clock(soaks)
    title = "Soak: " + ", ".join(soak.name for soak in soaks)
    tables = "\n".join(
        f'<h2>{escape(table.title)}</h2>\n{table_html(table, findings)}\n<p class="note">{escape(table.note)}</p>'
        for table in soak_report.TABLES
    )
    uncounted = [soak.name for soak in soaks if soak_report.calls_of_epochs(soak.whole) is None]
    without = f" Not counted: {', '.join(uncounted)}." if uncounted else ""
    axis = "Pale: every epoch; bold: the running mean. The axis starts at 0 and goes on in powers of ten."
    plots = "\n".join([
        figure("RSS over time", "Resident set size from the kernel, every epoch.", rss_chart(soaks, clock)),
        figure("Drift of RSS", "The same after the warm-up, less each allocator's median; bold: the Theil-Sen slope.",
               drift_chart(soaks, findings, clock)),
        figure("Throughput over time", "Pale: every epoch; bold: the running median.",
               throughput_chart(soaks, clock)),
        figure("Distribution of throughput",
               "How many epochs ran at which rate. The tail is on the left: slow epochs are what hurts. It says nothing about "
               "single calls.", distribution_chart(soaks, findings)),
        figure("Latency of a call", "Lower and further left is better. From the histograms of the measured calls, "
               "a sample, in the epochs that count. This tail is on the right, and is not the inverse of throughput's.",
               latency_chart(soaks),
               "No latency histograms were given."),
        figure("Page faults", f"Minor and major together. {axis}",
               count_chart("faults", "Page faults in an epoch", soaks, clock, faults)),
        figure("System calls for memory", f"mmap, munmap, madvise, mprotect, mremap and brk together.{without} {axis}",
               count_chart("calls", "System calls in an epoch", soaks, clock,
                           lambda soak: soak_report.calls_of_epochs(soak.whole)),
               "The system calls could not be counted in these runs."),
    ])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Soak run</h1>\n<p>{escape(facts(soaks, findings, reference, selection))}</p>\n"
        f"{tables}\n{plots}\n</body>\n</html>\n"
    )
