# SPDX-License-Identifier: Apache-2.0
"""Compares two builds, settings or allocators in interleaved runs, gives a verdict, and writes a note.

GO: B is better by 1 % or more, with the whole 95 % interval; NO-GO: worse by 1 % or more; NEUTRAL: within 1 %;
otherwise UNDECIDED. The exit status is 0 whatever the verdict, 1 when a run or a build fails, 2 for a mistake on the
command line.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
from typing import Dict, List, Optional, Tuple

from bench.ab import ab_arms
from bench.ab import ab_note
from bench.ab import ab_run
from bench.ab import ab_self_check
from bench.ab.ab_arms import ArmError, BuildError, Spec, Workshop
from bench.ab.ab_run import METRICS, Comparison, Failure
from bench.lib import cli
from bench.lib import machine
from bench.workloads.table import WORKLOADS, Workload

DEFAULT_WORKLOADS = ("mixed-400", "mixed-20k", "mixed-100k", "small-400", "exchange", "large")
DEFAULT_RUNS = 10
NOTES = os.path.join("docs", "analysis", "decisions")


def parser() -> cli.Parser:
    names = ", ".join(workload.name for workload in WORKLOADS)
    result = cli.Parser("ab", __doc__)
    result.epilog = ab_arms.grammar()
    result.add_argument("--a", metavar="ARM", help="the arm to compare with; arms are described below")
    result.add_argument("--b", metavar="ARM", help="the arm that is judged")
    result.add_argument("--runs", metavar="N", type=cli.whole_number(1, 1000),
                        help=f"pairs of runs of each workload (default {DEFAULT_RUNS})")
    result.add_argument("--max-runs", metavar="N", type=cli.whole_number(1, 10000),
                        help="while the overall verdict is undecided, add as many runs again, up to N")
    result.add_argument("--workload", metavar="NAME,...",
                        help=f"only these, or 'all' ({names}; default {','.join(DEFAULT_WORKLOADS)})")
    result.add_argument("--metric", metavar="NAME,...", default="all",
                        help="only these (throughput, rss, calls; default all)")
    result.add_argument("--counters", metavar="NAME,...",
                        help="print these of hakmem's statistics (fields of hak_stats) after one run of each arm")
    result.add_argument("--quick", action="store_true", help="runs of a quarter of the length: a smoke test")
    result.add_argument("--note", metavar="NAME", help=f"name of the note in {NOTES} (default ab-<A>-vs-<B>)")
    result.add_argument("--no-note", action="store_true", help="write no note")
    result.add_argument("--force", action="store_true", help="overwrite a note of that name")
    result.add_argument("--title", metavar="TEXT", help="the note's heading: the question (default <A> against <B>)")
    result.add_argument("--json", metavar="FILE", help="write every sample and the summary to FILE")
    result.add_argument("--self-check", action="store_true",
                        help="test this tool instead: it must call two identical arms NEUTRAL and a "
                             "planted slowdown of 3 %% NO-GO")
    return result


def self_check_options(options: cli.Parser, args: argparse.Namespace) -> None:
    for name in ("a", "b", "note", "title", "json"):
        if getattr(args, name) is not None:
            options.error(f"--{name} does not go with --self-check")
    args.max_runs = args.max_runs or max(ab_self_check.MAX_RUNS, args.runs)
    names = ",".join(ab_self_check.WORKLOADS) if args.workload is None else args.workload
    # Only some loops support a planted slowdown.
    known = [workload.name for workload in WORKLOADS if "DRAG" in workload.takes]
    args.workload = ",".join(cli.pick(options, "--workload", names, known))


def arm_options(options: cli.Parser, args: argparse.Namespace, directory: str) -> Tuple[Spec, Spec]:
    specs = []
    for name in ("a", "b"):
        text = getattr(args, name)
        if text is None:
            options.error(f"--{name} ARM is missing (--help tells what an arm may be)")
        try:
            specs.append(ab_arms.parse(text, directory, args.workspace))
        except ArmError as error:
            options.error(f"--{name}: {error}")
    if specs[0] == specs[1]:
        options.error(f"both arms are the same: {specs[0].label}")
    return specs[0], specs[1]


def note_options(options: cli.Parser, args: argparse.Namespace, specs: Tuple[Spec, Spec]) -> Optional[str]:
    """The path of the note, or None. Checks that it can be written before anything is measured."""
    labels = [ab_note.scrub(spec.label) for spec in specs]
    args.title = args.title or f"`{labels[0]}` against `{labels[1]}`"
    if "\n" in args.title:
        options.error("--title must be one line")
    if args.no_note:
        if args.note:
            options.error("--note does not go with --no-note")
        return None
    name = args.note or f"ab-{ab_note.slug(labels[0])}-vs-{ab_note.slug(labels[1])}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        options.error(f"--note: '{name}' is no plain file name")
    folder = os.path.join(args.workspace or "", NOTES)
    if not args.workspace or not os.path.isdir(folder):
        options.error(f"there is no {NOTES} to write the note to; --no-note writes none")
    path = os.path.join(folder, name if name.endswith(".md") else name + ".md")
    if os.path.exists(path) and not args.force:
        options.error(f"{os.path.join(NOTES, os.path.basename(path))} exists; --force overwrites it")
    return path


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Workload], Optional[Tuple[Spec, Spec]]]:
    options = parser()
    args = options.parse_args(argv)
    args.workspace = os.environ.get("BUILD_WORKSPACE_DIRECTORY")
    directory = cli.caller_directory()
    args.runs = args.runs or DEFAULT_RUNS
    metrics = cli.pick(options, "--metric", args.metric, [metric.name for metric in METRICS])
    args.metrics = [metric for metric in METRICS if metric.name in metrics]
    specs = None
    args.note_path = None
    args.counters = args.counters.split(",") if args.counters else []
    if not all(re.fullmatch(r"[a-z_]+", name) for name in args.counters):
        options.error("--counters: not a list of names")
    if args.self_check:
        self_check_options(options, args)
    else:
        specs = arm_options(options, args, directory)
        args.max_runs = args.max_runs or args.runs
        args.note_path = note_options(options, args, specs)
    if args.max_runs < args.runs:
        options.error(f"--max-runs {args.max_runs} is below --runs {args.runs}")
    names = [workload.name for workload in WORKLOADS]
    wanted = DEFAULT_WORKLOADS if args.workload is None else cli.pick(options, "--workload", args.workload, names)
    if args.json is not None:
        args.json = os.path.join(directory, args.json)
        if os.path.isdir(args.json) or not os.path.isdir(os.path.dirname(args.json)):
            options.error(f"--json: cannot write {args.json}")
    args.bench = cli.require(options, "workloads/random_mixed")
    args.counter = cli.require(options, "lib/count_calls")
    workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    args.programs = [cli.require(options, program) for program in sorted({w.program for w in workloads})]
    return args, workloads, specs


def document(comparison: Comparison, facts: Dict[str, str], title: str) -> Dict:
    """All samples and the summary, for --json."""

    def row(entry: ab_run.Row) -> Dict:
        ratio = entry.ratio
        return {"ratio": ratio.value, "interval": [ratio.low, ratio.high], "pairs": ratio.pairs,
                "verdict": entry.verdict}

    metrics = {}
    for metric in comparison.metrics:
        *rows, whole = comparison.summary(metric)
        metrics[metric.name] = {"unit": "KiB" if metric.name == "rss" else metric.unit.replace("Mops", "ops"),
                                "workloads": {r.workload.name: row(r) for r in rows}, "all": row(whole)}
    return {
        "format": 1,
        "title": title,
        "machine": facts,
        "compiler": comparison.compiler,
        "rounds": comparison.rounds,
        "looks": comparison.looks,
        "arms": {arm.letter: {"arm": arm.label, "allocator": identity, "origin": arm.origin, "sha256": arm.digest()}
                 for arm, identity in zip(comparison.arms, comparison.identities)},
        "metrics": metrics,
        "samples": {
            s.workload.name: {
                "arguments": s.workload.arguments(comparison.quick),
                **{metric.name: dict(zip("ab", s.values[metric.name])) for metric in comparison.metrics},
                "kinds": dict(zip("ab", s.kinds)),
            }
            for s in comparison.samples
        },
    }


def command_line(argv: List[str]) -> str:
    """The command for the note, which repeats the comparison."""
    kept = [word for word in argv if word != "--force"]
    return ab_note.scrub("./bazelw run //bench:ab -- " + shlex.join(kept))


def compare(args: argparse.Namespace, workloads: List[Workload], specs: Tuple[Spec, Spec], workshop: Workshop,
            bench: str, argv: List[str]) -> int:
    facts = machine.describe()
    arms = (workshop.prepare(specs[0], "a"), workshop.prepare(specs[1], "b"))
    for arm in arms:
        wrong = ab_arms.probe(bench, arm)
        if wrong:
            raise Failure(f"arm {arm.letter.upper()} ({arm.label}): {wrong}")
    before = [arm.digest() for arm in arms]
    comparison = Comparison(bench, args.counter, arms, workloads, args.metrics, args.quick, workshop.folder)
    comparison.counters = args.counters
    comparison.run(args.runs, args.max_runs)
    if [arm.digest() for arm in arms] != before:
        raise Failure("a library changed while it was measured")
    print(machine.lines(facts))
    print(f"Harness: random_mixed built by {comparison.compiler}; {comparison.rounds} rounds"
          + ("; --quick: too short for claims" if args.quick else ""))
    ab_note.write_table(sys.stdout, comparison)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document(comparison, facts, args.title), file, indent=1)
            file.write("\n")
    if args.note_path:
        with open(args.note_path, "w", encoding="utf-8") as file:
            file.write(ab_note.note(args.title, comparison, facts, command_line(argv)))
        name = os.path.basename(args.note_path)
        print(f"\nWrote {os.path.join(NOTES, name)}. The line for {os.path.join(NOTES, 'README.md')}:")
        print(ab_note.index_line(name, args.title))
    return 0


def main(argv: List[str]) -> int:
    args, workloads, specs = parse(argv)
    with Workshop(args.workspace) as workshop:
        # A build that runs meanwhile must not change the harness between two runs.
        bench = workshop.keep(args.bench, "random_mixed")
        for program in args.programs:
            workshop.keep(program, os.path.basename(program))
        if specs:
            return compare(args, workloads, specs, workshop, bench, argv)
        return ab_self_check.run(lambda letter: workshop.prepare(Spec("standard"), letter), bench, args.counter,
                                 workloads, args.runs, args.max_runs, args.quick, workshop.folder)


def terminated(*_) -> None:
    sys.exit(143)  # runs every `finally`, so that worktrees and folders are removed


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except (Failure, BuildError) as error:
        sys.stderr.write(f"ab: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\nab: interrupted\n")
        sys.exit(130)
