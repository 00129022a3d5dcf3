# SPDX-License-Identifier: Apache-2.0
"""Percentiles of the latencies in a soak run's latency file, or of one column of its epoch file.

  calculate_percentiles FILE.latency.csv                         of all calls, the epochs' histograms merged
  calculate_percentiles FILE.csv --column rss_kib --warmup 10%   of one column, over the epochs

Within a bucket of a histogram the calls count as evenly spread, so a percentile is off by at most the bucket's width.
Percentiles over epochs are interpolated between the two nearest ranks. The 99th percentile of the epochs' p99_ns is not
the 99th percentile of the calls, which only the histograms show."""

import math

from bench.lib import cli
from bench.soak import soak_cli
from bench.soak import soak_data
from bench.soak import soak_stats
from bench.soak.soak_data import DataError

PROG = "calculate_percentiles"
UNITS = {"_ns": "ns", "_kib": "KiB", "_bytes": "B", "_per_s": "1/s", "_s": "s"}


def unit_of(column: str) -> str:
    return next((f" {unit}" for ending, unit in UNITS.items() if column.endswith(ending)), "")


def main() -> None:
    parser = cli.Parser(PROG, __doc__)
    parser.add_argument("file", metavar="FILE", help="an epoch file or a latency file, told apart by the header")
    parser.add_argument("--column", metavar="NAME", help=f"of an epoch file: {', '.join(soak_data.NUMERIC)}")
    parser.add_argument("--percentiles", metavar="P,...", type=soak_cli.percentiles,
                        default=soak_cli.percentiles("50,90,99,99.9,99.99"), help="default: 50,90,99,99.9,99.99")
    soak_cli.add_selection(parser, "0")
    args = parser.parse_args()
    if args.column is not None and args.column not in soak_data.NUMERIC:
        parser.error(f"--column does not know '{args.column}' (known: {', '.join(soak_data.NUMERIC)})")

    path = soak_cli.path_of(args.file)
    if soak_data.kind_of(args.file, path) == "latency":
        if args.column is not None:
            parser.error(f"{args.file} is a latency file: it takes no --column")
        if args.phase is not None:
            parser.error(f"{args.file} is a latency file: it knows no phases")
        rows = soak_data.read_latency(args.file, path)
        buckets = soak_data.merge_latency(args.file, rows, epochs_of(args.warmup, rows))
        count, column = sum(bucket[2] for bucket in buckets), "latency_ns"
        results = [soak_stats.histogram_percentile(buckets, p) for p in args.percentiles]
    else:
        if args.column is None:
            parser.error(f"{args.file} is an epoch file: it needs --column (one of {', '.join(soak_data.NUMERIC)})")
        run = soak_cli.read_selected(args.file, args)
        values, column = sorted(run.columns[args.column]), args.column
        if values[0] < 0:
            raise DataError(args.file, 0, f"{column} was not counted in every epoch")
        count = len(values)
        results = [soak_stats.percentile(values, p) for p in args.percentiles]

    print(f"{column} of {count} {'calls' if column == 'latency_ns' else 'epochs'}")
    for percent, result in zip(args.percentiles, results):
        print(f"p{percent:<8g} {result:>16.3f}{unit_of(column)}")


def epochs_of(warmup: soak_cli.Warmup, rows: list[soak_data.LatencyRow]) -> range:
    """The epochs after the warm-up, in the range of the file. An epoch without calls has no row."""
    first, end = rows[0].epoch, rows[-1].epoch + 1
    return range(first + math.ceil(warmup.amount * (end - first if warmup.is_fraction else 1) - 1e-9), end)


if __name__ == "__main__":
    soak_cli.run_main(PROG, main)
