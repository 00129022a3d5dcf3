# SPDX-License-Identifier: Apache-2.0
"""The tails of soak runs, from their epoch files: how slow the slow epochs are, and how the latencies vary over epochs.

  analyze_epoch_tail_csv hakmem.csv mimalloc.csv

The bad tail of throughput is the low one: 99 % and 99.9 % of the epochs exceed the rates p1 and p0.1. The latencies are
percentiles of the calls of each epoch: `p99 worst` is the p99 of the worst epoch. A percentile of these is not a
percentile of all calls (calculate_percentiles has those, from the histograms). The 99th percentile of latency is not 1
over the 1st percentile of throughput: an epoch's rate averages millions of calls, so a single call that is a thousand
times too slow does not show in it."""

from statistics import fmean, median

from bench.lib import cli
from bench.soak import soak_cli
from bench.soak import soak_data
from bench.soak import soak_stats

PROG = "analyze_epoch_tail_csv"
THROUGHPUT = ["epochs", "mean", "median", "CV %", "p1", "p0.1", "slowest", "p1/median"]
NOTE = """\
Throughput in ops/s; p1 and p0.1 are the slow epochs (with under 1,000 epochs p0.1 lies between the two slowest).
Latency in ns: for each of the epochs' own percentiles the median epoch, the 99th percentile of the epochs, the worst.
p99 of latency is not 1/p1 of throughput: an epoch's rate averages over all its calls."""


def throughput_figures(run: soak_data.Run) -> list[float]:
    rates = sorted(run.columns["ops_per_s"])
    middle, slow = float(median(rates)), soak_stats.percentile(rates, 1)
    shape = slow / middle if middle else 0.0
    variation = 100 * soak_stats.variation(rates)
    return [len(rates), fmean(rates), middle, variation, slow, soak_stats.percentile(rates, 0.1), rates[0], shape]


def latency_figures(run: soak_data.Run) -> list[float]:
    summary: list[float] = []
    for column in soak_data.LATENCIES:
        values = sorted(run.columns[column])
        summary += [float(median(values)), soak_stats.percentile(values, 99), values[-1]]
    return summary


def latency_header() -> list[str]:
    names = ["p50", "p99", "p99.9", "max"]
    return [f"{name} {what}" for name in names for what in ("median", "p99", "worst")]


def main() -> None:
    parser = cli.Parser(PROG, __doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="epoch files")
    parser.add_argument("--format", choices=["table", "csv", "markdown"], default="table", help="default: table")
    soak_cli.add_selection(parser, "10%")
    args = parser.parse_args()

    runs = [soak_cli.read_selected(file, args) for file in args.files]
    throughput = [throughput_figures(run) for run in runs]
    latency = [latency_figures(run) for run in runs]
    if args.format == "csv":
        header = ["file"] + [f"ops_per_s {name}" if name != "epochs" else name for name in THROUGHPUT]
        header += [f"latency_ns {name}" for name in latency_header()]
        rows = [[file, *a, *b] for file, a, b in zip(args.files, throughput, latency)]
        print(soak_cli.csv_table([name.replace(" ", "_") for name in header], rows), end="")
        return

    render = soak_cli.markdown_table if args.format == "markdown" else soak_cli.text_table
    digits = [0, 0, 0, 2, 0, 0, 0, 3]
    print(render(["throughput", *THROUGHPUT],
                 [[file] + [f"{x:,.{d}f}" for x, d in zip(row, digits)] for file, row in zip(args.files, throughput)]))
    print(render(["latency", *latency_header()],
                 [[file] + [f"{x:,.0f}" for x in row] for file, row in zip(args.files, latency)]))
    print(f"{NOTE}\nEpochs {soak_cli.describe_selection(args)}.")


if __name__ == "__main__":
    soak_cli.run_main(PROG, main)
