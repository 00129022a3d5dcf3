# SPDX-License-Identifier: Apache-2.0
"""Does memory drift and does speed vary? Compares the soak runs of several allocators, one epoch file for each.

  analyze_soak hakmem=out/hakmem.csv mimalloc=out/mimalloc.csv --html out/soak.html

The latency histograms are read from NAME.latency.csv beside the epoch file, or from a file with the epoch file's name and
that ending. The slope of RSS is Theil and Sen's, its interval allows for autocorrelation (soak_stats.py has the papers).
The bad tail of throughput is the low one. The p99 of latency is not 1/p1 of throughput; it comes from the histograms.
"""

import argparse
import os
import textwrap
from typing import Optional

from bench.lib import cli
from bench.soak import soak_cli
from bench.soak import soak_data
from bench.soak import soak_page
from bench.soak import soak_report
from bench.soak.soak_report import Soak

PROG = "analyze_soak"
DEFAULT_REFERENCE = "mimalloc"


def named_files(parser: cli.Parser, items: list[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for item in items:
        name, equals, file = item.partition("=")
        if not (name and equals and file):
            parser.error(f"expected NAME=FILE, not '{item}'")
        if name in files:
            parser.error(f"{name} is given twice")
        files[name] = file
    return files


def latency_file(name: str, file: str) -> Optional[str]:
    beside = os.path.join(os.path.dirname(file), f"{name}.latency.csv")
    same_stem = f"{os.path.splitext(file)[0]}.latency.csv"
    return next((found for found in (beside, same_stem) if os.path.exists(soak_cli.path_of(found))), None)


def read(name: str, file: str, latency: Optional[str], args: argparse.Namespace) -> Soak:
    whole = soak_cli.read_whole(file)
    run = soak_data.select(whole, *args.warmup, args.phase)
    buckets = None
    if latency is not None:
        rows = soak_data.read_latency(latency, soak_cli.path_of(latency))
        buckets = soak_data.merge_latency(latency, rows, set(run.columns["epoch"]))
    return Soak(name, whole, run, buckets)


def main() -> None:
    parser = cli.Parser(PROG, __doc__)
    parser.add_argument("runs", metavar="NAME=FILE.csv", nargs="+", help="an allocator and its epoch file")
    parser.add_argument("--reference", metavar="NAME",
                        help="the allocator whose CV is the limit (default: mimalloc, if it is among them)")
    parser.add_argument("--latency", metavar="NAME=FILE", action="append", default=[],
                        help="the histograms of this allocator")
    parser.add_argument("--html", metavar="FILE", help="write one page with tables and plots that needs no other file")
    parser.add_argument("--summary", metavar="FILE", help="write a CSV file with one row for each allocator")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--scorecard", action="store_true", help="print only the requirements and whether they are met")
    soak_cli.add_selection(parser, "10%")
    args = parser.parse_args()

    files, latencies = named_files(parser, args.runs), named_files(parser, args.latency)
    for name in latencies:
        if name not in files:
            parser.error(f"--latency does not know '{name}' (known: {', '.join(files)})")
    reference = args.reference or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in files else None)
    if reference is not None and reference not in files:
        parser.error(f"--reference does not know '{reference}' (known: {', '.join(files)})")

    soaks = [read(name, file, latencies.get(name) or latency_file(name, file), args) for name, file in files.items()]
    findings = soak_report.examine_all(soaks, reference)

    if args.summary is not None:
        soak_cli.write_file(args.summary, soak_cli.csv_table(*soak_report.summary_rows(findings)))
    if args.html is not None:
        soak_cli.write_file(args.html, soak_page.page(soaks, findings, reference, soak_cli.describe_selection(args)))

    render = soak_cli.markdown_table if args.markdown else soak_cli.text_table
    if args.scorecard:
        print(render(*soak_report.scorecard(findings, reference)), end="")
        return
    for table in soak_report.TABLES:
        print(f"### {table.title}\n" if args.markdown else table.title)
        print(render(table.header(), table.rows(findings)))
        print(table.note if args.markdown else textwrap.fill(table.note, 118), end="\n\n")
    print(f"Epochs {soak_cli.describe_selection(args)}. Reference: {reference or 'none'}.")


if __name__ == "__main__":
    soak_cli.run_main(PROG, main)
