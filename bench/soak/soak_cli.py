# SPDX-License-Identifier: Apache-2.0
"""What the three soak scripts share on the command line: options, file names, and tables as text, Markdown or CSV."""

import argparse
import csv
import io
import os
import re
import sys
from typing import Callable, NamedTuple, NoReturn, Sequence

from bench.lib import cli
from bench.soak import soak_data
from bench.soak.soak_data import DataError


class Warmup(NamedTuple):
    amount: float
    is_fraction: bool

    def __str__(self) -> str:
        return f"{self.amount * 100:g} % of the epochs" if self.is_fraction else f"{self.amount:g} epochs"


def warmup(text: str) -> Warmup:
    """`36` is a number of epochs; `0.1` and `10%` are a share of them."""
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return Warmup(int(text), False)
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)(%?)", text, re.ASCII)
    share = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if share >= 1:
        raise argparse.ArgumentTypeError(f"must be a number of epochs, or a share of them as 0.1 or 10%, not '{text}'")
    return Warmup(share, True)


def percentiles(text: str) -> list[float]:
    """A comma-separated list; keeps its order."""
    found = []
    for item in text.split(","):
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", item, re.ASCII) or float(item) > 100:
            raise argparse.ArgumentTypeError(f"must be numbers from 0 to 100 with commas between, not '{text}'")
        found.append(float(item))
    return found


def add_selection(parser: cli.Parser, default: str) -> None:
    shown = default.replace("%", "%%")
    parser.add_argument("--warmup", metavar="EPOCHS|SHARE", type=warmup, default=warmup(default),
                        help=f"leave out this many of the first epochs, or 0.1 or 10%% of them (default: {shown})")
    parser.add_argument("--phase", metavar="WORD,...", type=lambda text: text.split(","),
                        help="only the epochs of these phases (default: all phases that occur more than once)")


def path_of(file: str) -> str:
    return os.path.join(cli.caller_directory(), file)


def read_whole(file: str) -> soak_data.Run:
    return soak_data.read_run(file, path_of(file))


def read_selected(file: str, args: argparse.Namespace) -> soak_data.Run:
    return soak_data.select(read_whole(file), *args.warmup, args.phase)


def describe_selection(args: argparse.Namespace) -> str:
    phases = f"only phase {', '.join(args.phase)}" if args.phase else "all phases that occur more than once"
    return f"without the warm-up of {args.warmup}, {phases}"


def write_file(file: str, text: str) -> None:
    try:
        with open(path_of(file), "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise DataError(file, 0, os.strerror(error.errno or 0)) from None


def run_main(prog: str, main: Callable[[], None]) -> NoReturn:
    """Runs `main`. If data cannot be read, prints one line and returns status 2."""
    try:
        main()
        sys.stdout.flush()
    except DataError as error:
        sys.stderr.write(f"{prog}: {error}\n")
        sys.exit(2)
    except BrokenPipeError:
        # Otherwise the interpreter prints an error when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligns the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        rest = [f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:])]
        return "  ".join([f"{cells[0]:<{widths[0]}}", *rest]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *(line(row) for row in rows)]) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def csv_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return buffer.getvalue()
