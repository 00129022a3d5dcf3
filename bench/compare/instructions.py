# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of a warm malloc and free of one block with callgrind, on hakmem and the installed peers.

The loop runs N and 2N times. The difference divided by N excludes start-up and the first, slow calls.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, List

from bench.lib import cli
from bench.lib.allocators import Allocator

PAIRS = 100_000


def self_cost(path: str) -> Dict[str, int]:
    """Instructions executed in each object file, from a callgrind profile written without compression."""
    cost: Dict[str, int] = {}
    current, skip = "", False
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("ob="):
                current = line[3:].strip()
            elif line.startswith("calls="):
                skip = True  # the next line is the cost of the callee, which is counted there
            elif line[:1].isdigit():
                if not skip:
                    cost[current] = cost.get(current, 0) + int(line.split()[1])
                skip = False
    return cost


def profile(bench: str, allocator: Allocator, size: int, pairs: int, directory: str) -> Dict:
    """The cost of one run. RuntimeError: the run failed or used another allocator."""
    out = os.path.join(directory, "callgrind.out")
    # No pipes for a debugger: their names in /tmp contain the process id, which can be the same in another sandbox.
    command = ["valgrind", "-q", "--vgdb=no", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no",
               "--compress-pos=no", bench, str(pairs), "1", "1", str(size), str(size), "--workload", "pair"]
    done = subprocess.run(command, env=allocator.environment(dict(os.environ)), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    identity = next((l[12:] for l in done.stdout.splitlines() if l.startswith("Allocator = ")), "")
    wrong = allocator.check_identity(identity)
    if wrong:
        raise RuntimeError(f"a run did not use the allocator it names: {wrong}")
    return {"identity": identity, "cost": self_cost(out)}


def count(bench: str, allocator: Allocator, size: int) -> Dict:
    with tempfile.TemporaryDirectory(prefix="hakmem-instructions-") as directory:
        one = profile(bench, allocator, size, PAIRS, directory)
        two = profile(bench, allocator, size, 2 * PAIRS, directory)
    difference = {file: cost - one["cost"].get(file, 0) for file, cost in two["cost"].items()}
    # Not by the library's name, because callgrind cannot always assign code without symbols to an object.
    harness = sum(cost for file, cost in difference.items() if os.path.basename(file) == os.path.basename(bench))
    total = sum(difference.values())
    return {"identity": one["identity"], "allocator": (total - harness) / PAIRS, "total": total / PAIRS}


def main(argv: List[str]) -> int:
    parser = cli.Parser("instructions", __doc__)
    parser.add_argument("--size", metavar="BYTES", type=cli.whole_number(1, 1 << 30), default=64,
                        help="size of the block (default 64)")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    bench = cli.require(parser, "workloads/random_mixed")
    if not shutil.which("valgrind"):
        parser.fail("valgrind is not installed")
    rows, failed = {}, False
    for allocator in chosen:
        try:
            rows[allocator.name] = count(bench, allocator, args.size)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"instructions: {allocator.name}: {error}\n")
            failed = True
    print(f"Instructions of a malloc({args.size}) + free pair, warm, by callgrind:")
    print(f"{'allocator':16}  {'inside':>8}  {'in all':>8}")
    for name, row in rows.items():
        print(f"{name:16}  {row['allocator']:8.2f}  {row['total']:8.2f}   {row['identity']}")
    for line in missing:
        print(f"missing: {line}")
    print("inside: in the allocator. in all: with the loop, the write of one byte, and the two jumps of the PLT.")
    if args.json:
        document = {"format": 1, "size": args.size, "pairs": PAIRS, "allocators": rows, "missing": missing}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
