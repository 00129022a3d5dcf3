# SPDX-License-Identifier: Apache-2.0
"""The options that the benchmark scripts share, and how they report mistakes."""

import argparse
import os
import sys
from typing import Callable, List, NoReturn, Tuple

from bench.lib import allocators
from bench.lib.allocators import Allocator


class Parser(argparse.ArgumentParser):
    """A mistake prints one line and the usage on stderr and exits 2; abbreviated options are refused."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\n")
        self.print_usage(sys.stderr)
        sys.exit(2)

    def fail(self, message: str) -> NoReturn:
        """Ends the program because of the machine or the build, not because of the command line."""
        sys.stderr.write(f"{self.prog}: {message}\n")
        sys.exit(1)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not '{text}'")
        return int(text)

    return convert


def caller_directory() -> str:
    """Where the user typed the command: `bazel run` starts programs elsewhere."""
    return os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd())


def add_common_options(parser: Parser) -> None:
    parser.add_argument(
        "--allocator",
        metavar="NAME[=LIB.so],...",
        help="bare names: only these; NAME=LIB.so: a library to preload, beside the named ones or all found",
    )
    parser.add_argument("--json", metavar="FILE", help="write every sample and the summary to FILE")


def resolve_common_options(parser: Parser, args: argparse.Namespace, floor: bool) -> Tuple[List[Allocator], List[str]]:
    """Makes args.json absolute; returns the allocators that take part, and a line for each that is missing."""
    directory = caller_directory()
    if args.json is not None:
        args.json = os.path.join(directory, args.json)
        if os.path.isdir(args.json) or not os.path.isdir(os.path.dirname(args.json)):
            parser.error(f"--json: cannot write {args.json}")
    try:
        return allocators.select(args.allocator, directory, floor)
    except allocators.SelectionError as error:
        parser.error(f"--allocator: {error}")


def pick(parser: Parser, option: str, text: str, known: List[str]) -> List[str]:
    """The known names in a comma-separated list, in the order of `known`; "all" is all of them."""
    if text == "all":
        return known
    wanted = text.split(",")
    for name in wanted:
        if name not in known:
            parser.error(f"{option} does not know '{name}' (known: {', '.join(known)}, all)")
    return [name for name in known if name in wanted]


def require(parser: Parser, name: str) -> str:
    """The path of a file of the build, or the end of the program."""
    path = allocators.built_file(name)
    if not path:
        parser.fail(f"bench/{name} was not built (run the script through bazel)")
    return path
