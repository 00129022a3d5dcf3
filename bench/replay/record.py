# SPDX-License-Identifier: Apache-2.0
"""Records a program's calls of malloc and its relatives, and writes them as a trace for //bench:replay.

The program runs on the C library's malloc, with a recorder preloaded. Of its processes the one with the most calls is
written, or the one that --process names by its place in that order.
"""

import argparse
import glob
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Tuple

from bench.lib import cli

MAGIC, VERSION = b"HAKTRACE", 1
END, THREAD, TIME, MALLOC, CALLOC, ALIGNED, REALLOC, FREE = range(8)

RECORD = struct.Struct("<QQQHBBI")  # struct record of record.c
RAW_MALLOC, RAW_CALLOC, RAW_ALIGNED, RAW_FREE, RAW_REALLOC_BEGIN, RAW_REALLOC_END = range(1, 7)
OPS = {RAW_MALLOC: MALLOC, RAW_CALLOC: CALLOC, RAW_ALIGNED: ALIGNED}
DEFAULT_CALLS = 4_000_000


class Raw(NamedTuple):
    address: int
    size: int
    time_ns: int
    thread: int
    alignment_bits: int
    op: int
    unused: int


def number(value: int) -> bytes:
    """Seven bits a byte, lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Packer:
    """Turns records of the recorder into records of a trace: blocks instead of addresses."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.out = bytearray(MAGIC + struct.pack("<H", VERSION))
        self.records = self.calls = self.blocks = 0
        self.live: Dict[int, int] = {}  # by address, the number of the block
        self.moving: Dict[int, Tuple[int, int]] = {}  # by thread, address and block of an unfinished realloc
        self.threads: Dict[int, int] = {}
        self.thread = 0
        self.start_ns = self.shown_us = 0
        self.cut = False

    def _fits(self, record: bytes) -> bool:
        # The last record, and that of a thread or time before this one, must fit, too.
        if len(self.out) + len(record) + 10 > self.limit:
            self.cut = True
        return not self.cut

    def _put(self, record: bytes) -> None:
        self.out += record
        self.records += 1

    def _call(self, raw: Raw, record: bytes) -> bool:
        before = []
        thread = self.threads.setdefault(raw.thread, len(self.threads))
        if thread != self.thread:
            before.append(bytes([THREAD]) + number(thread))
        self.start_ns = self.start_ns or raw.time_ns
        passed = max(0, raw.time_ns - self.start_ns) // 1000 - self.shown_us
        if passed > 0:
            before.append(bytes([TIME]) + number(passed))
        if not self._fits(b"".join([*before, record])):
            return False
        for one in before:
            self._put(one)
        self.thread = thread
        self.shown_us += max(0, passed)
        self._put(record)
        self.calls += 1
        return True

    def _age(self, block: int) -> bytes:
        return number(self.blocks - 1 - block)

    def _made(self, address: int) -> None:
        self.live[address] = self.blocks
        self.blocks += 1

    def add(self, raw: Raw) -> None:
        if raw.op in OPS:
            bits = number(raw.alignment_bits) if raw.op == RAW_ALIGNED else b""
            if self._call(raw, bytes([OPS[raw.op]]) + bits + number(raw.size)):
                self._made(raw.address)
        elif raw.op == RAW_FREE:
            block = self.live.pop(raw.address, None)
            # Blocks from before the recording are not known.
            if block is not None:
                self._call(raw, bytes([FREE]) + self._age(block))
        elif raw.op == RAW_REALLOC_BEGIN:
            block = self.live.pop(raw.address, None)
            if block is not None:
                self.moving[raw.thread] = (raw.address, block)
        elif raw.op == RAW_REALLOC_END:
            address, block = self.moving.pop(raw.thread, (0, -1))
            if raw.address == 0:  # it failed, and the block stays
                if block >= 0:
                    self.live[address] = block
            elif block < 0:
                if self._call(raw, bytes([MALLOC]) + number(raw.size)):
                    self._made(raw.address)
            elif self._call(raw, bytes([REALLOC]) + self._age(block) + number(raw.size)):
                self._made(raw.address)

    def finish(self) -> bytes:
        return bytes(self.out) + bytes([END]) + number(self.records)


def raw_records(file: BinaryIO) -> Iterator[Raw]:
    """The records of one process. The first that was not written ends them: the process was killed in between."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for at in range(0, len(view) - RECORD.size + 1, RECORD.size):
            raw = Raw(*RECORD.unpack_from(view, at))
            if raw.op == 0:
                return
            yield raw


def count_of(path: str) -> int:
    """How many records are written, by bisection: they are written in a row."""
    with open(path, "rb") as file:
        low, high = 0, os.path.getsize(path) // RECORD.size
        while low < high:
            middle = (low + high) // 2
            file.seek(middle * RECORD.size)
            low, high = (middle + 1, high) if file.read(RECORD.size)[27] else (low, middle)
    return low


def parse(argv: List[str]):
    parser = cli.Parser("record", __doc__)
    parser.usage = "record [--output FILE] [--limit-kib N] [--calls N] [--process N] [--] PROGRAM [ARGUMENT ...]"
    parser.add_argument("--output", metavar="FILE", help="the trace (default PROGRAM.trace)")
    parser.add_argument("--limit-kib", metavar="N", type=cli.whole_number(1, 1 << 20), default=1 << 20,
                        help="cut the trace at this size")
    parser.add_argument("--calls", metavar="N", type=cli.whole_number(1, 100_000_000), default=DEFAULT_CALLS,
                        help=f"record at most so many calls of each process (default {DEFAULT_CALLS})")
    parser.add_argument("--process", metavar="N", type=cli.whole_number(1, 100_000), default=1,
                        help="the process with the Nth most calls (default 1)")
    # All that follows the program is its own, options too: `bazel run` takes the first -- for itself.
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    args = parser.parse_args(argv)
    if args.program[:1] == ["--"]:
        del args.program[0]
    if not args.program:
        parser.error("which program?")
    name = os.path.basename(args.program[0]) + ".trace"
    args.output = os.path.join(cli.caller_directory(), args.output or name)
    if os.path.isdir(args.output) or not os.path.isdir(os.path.dirname(args.output)):
        parser.error(f"--output: cannot write {args.output}")
    args.library = cli.require(parser, "replay/librecord.so")
    return args, parser


def main(argv: List[str]) -> int:
    args, parser = parse(argv)
    with tempfile.TemporaryDirectory(prefix="hakmem-record-") as folder:
        env = dict(os.environ, LD_PRELOAD=args.library, HAKMEM_BENCH_RECORD=folder,
                   HAKMEM_BENCH_RECORD_CALLS=str(args.calls))
        try:
            status = subprocess.run(args.program, env=env, cwd=cli.caller_directory(), check=False).returncode
        except OSError as error:
            parser.fail(f"cannot start {args.program[0]}: {error.strerror}")
        counted = sorted(((count_of(path), path) for path in glob.glob(os.path.join(folder, "raw.*"))), reverse=True)
        counted = [(calls, path) for calls, path in counted if calls]
        if len(counted) < args.process:
            parser.fail(f"{args.program[0]}: {len(counted)} processes made calls that could be recorded")
        packer = Packer(args.limit_kib * 1024)
        with open(counted[args.process - 1][1], "rb") as file:
            for raw in raw_records(file):
                packer.add(raw)
                if packer.cut:
                    break
        if packer.calls == 0:
            parser.fail("not a single call fits into the limit")
    with open(args.output, "wb") as file:
        file.write(packer.finish())
    print(f"{args.output}: {packer.calls} calls of {len(packer.threads)} threads, {len(packer.out) / 1024:.0f} KiB"
          + (", cut" if packer.cut or counted[args.process - 1][0] >= args.calls else "")
          + f"; process {args.process} of {len(counted)}; the program's status is {status}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nrecord: interrupted\n")
        sys.exit(130)
