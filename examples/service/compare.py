#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the service with and without hakmem, in turns, and prints a Markdown table.

    bazel run //:compare -- --rounds 5 --output /tmp/service.md

Each round starts every server again, in another order than the round before, and sends the same requests to it. The
table has medians over the rounds, with the lowest and the highest value in brackets."""

import argparse
import glob
import json
import os
import pathlib
import platform
import statistics
import sys
import time

from running import Server, load

COLUMNS = [
    ("requests/s", "requests_per_second", 1, "%.0f"),
    ("CPU, us/request", "cpu_us_per_request", 1, "%.1f"),
    ("p50, us", "p50_us", 1, "%.0f"),
    ("p99, us", "p99_us", 1, "%.0f"),
    ("p99.9, us", "p999_us", 1, "%.0f"),
    ("max, us", "max_us", 1, "%.0f"),
    ("RSS peak, MiB", "rss_peak_bytes", 1 << 20, "%.1f"),
    ("RSS at the end", "rss_end_bytes", 1 << 20, "%.1f"),
    ("RSS at rest, empty", "rss_settled_bytes", 1 << 20, "%.1f"),
]

PEERS = {
    "jemalloc": "/usr/lib/*/libjemalloc.so.2",
    "mimalloc": "/usr/lib/*/libmimalloc.so.2",
    "tcmalloc": "/usr/lib/*/libtcmalloc_minimal.so.4",
}


def arguments_of(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="the server on hakmem")
    parser.add_argument("--server-libc", required=True, help="the server on libc's malloc")
    parser.add_argument("--load", required=True, help="the load generator")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300000, help="for each server and round")
    parser.add_argument("--settle-s", type=int, default=3,
                        help="how long a server rests before its memory is measured again")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--threads", type=int, default=16, help="of a server")
    parser.add_argument("--keys", type=int, default=20000)
    parser.add_argument("--peers", action="store_true", help="also the installed other allocators, by LD_PRELOAD")
    parser.add_argument("--output", help="a file for the table, besides standard output")
    options = parser.parse_args(argv)
    for name, least in [("rounds", 1), ("requests", 1), ("settle_s", 0), ("connections", 1), ("keys", 1)]:
        if getattr(options, name) < least:
            parser.error("--%s must be at least %d" % (name.replace("_", "-"), least))
    if options.threads <= options.connections:
        parser.error("--threads must be more than --connections: a connection takes a thread of the server")
    return options


def arms_of(options):
    """[(name, program, environment)]"""
    arms = [
        ("hakmem", options.server, {}),
        # An idle program makes no calls that could return memory, so this starts a thread that does.
        ("hakmem HAKMEM_BACKGROUND=1", options.server, {"HAKMEM_BACKGROUND": "1"}),
        ("libc", options.server_libc, {}),
    ]
    if options.peers:
        for name, pattern in sorted(PEERS.items()):
            found = sorted(glob.glob(pattern))
            if found:
                arms.append((name + " (LD_PRELOAD)", options.server_libc, {"LD_PRELOAD": found[0]}))
            else:
                print("compare: %s is not installed and left out" % name, file=sys.stderr)
    return arms


def run(arm, options, seed):
    name, program, env = arm
    with Server(program, "--threads=%d" % options.threads, env=env) as server:
        done = load(
            options.load,
            server,
            "--format=json",
            "--fill=1",
            "--clear=1",
            "--seed=%d" % seed,
            "--requests=%d" % options.requests,
            "--warmup-ms=0",
            "--settle-s=%d" % options.settle_s,
            "--connections=%d" % options.connections,
            "--keys=%d" % options.keys,
            seconds=120 + options.settle_s + (options.requests + 2 * options.keys) / 500,
        )
    if done.returncode != 0:
        raise RuntimeError("the load run on %s failed: %s%s" % (name, done.stdout, done.stderr))
    return json.loads(done.stdout), server.allocator


def cell(values, scale, form):
    scaled = sorted(value / scale for value in values)
    middle = form % statistics.median(scaled)
    return middle if len(scaled) == 1 else "%s [%s, %s]" % (middle, form % scaled[0], form % scaled[-1])


def table(results):
    """`results`: {arm: [report of each round]}; the lines of the table."""
    lines = ["| malloc | " + " | ".join(column[0] for column in COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, reports in results.items():
        cells = [cell([report[key] for report in reports], scale, form) for _, key, scale, form in COLUMNS]
        lines.append("| %s | %s |" % (name, " | ".join(cells)))
    return lines


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def page(options, results, allocator, load_before):
    lines = [
        "%s, %d processors usable, Linux %s, load average %.2f before the first run; %s."
        % (processor(), len(os.sched_getaffinity(0)), platform.release(), load_before, allocator),
        "",
        "%d rounds; in each a server starts, gets %d keys and then %d requests over %d connections, which its %d threads"
        % (options.rounds, options.keys, options.requests, options.connections, options.threads),
        "answer. Medians, [lowest, highest] of the rounds; RSS at rest is %d s after all keys were deleted."
        % options.settle_s,
        "",
    ]
    return "\n".join(lines + table(results)) + "\n"


def main(argv):
    options = arguments_of(argv)
    arms = arms_of(options)
    results = {name: [] for name, _, _ in arms}
    load_before = os.getloadavg()[0]
    allocator = ""
    for number in range(options.rounds):
        # Each round begins with another arm, so that no arm always has the same place in a round.
        for arm in arms[number % len(arms) :] + arms[: number % len(arms)]:
            begin = time.monotonic()
            report, who = run(arm, options, number + 1)
            allocator = who if arm[1] == options.server else allocator
            results[arm[0]].append(report)
            print(
                "round %d, %s: %.0f requests/s in %.0f s"
                % (number + 1, arm[0], report["requests_per_second"], time.monotonic() - begin),
                file=sys.stderr,
            )
    text = page(options, results, allocator, load_before)
    print(text, end="")
    if options.output:
        # `bazel run` starts programs in another folder than the caller's.
        where = pathlib.Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), options.output)
        where.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
