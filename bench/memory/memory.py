# SPDX-License-Identifier: Apache-2.0
"""Measures what memory a process keeps with hakmem and with the installed peers, and prints one table of targets."""

import argparse
import concurrent.futures
import json
import os
import sys
import time
from typing import Dict, List, Sequence, Tuple

from bench.lib import cli
from bench.lib import machine
from bench.lib import stats
from bench.lib.runs import IdentityError, Progress
from bench.memory import memory_cases
from bench.memory import memory_runs
from bench.memory import memory_table
from bench.memory.memory_cases import Case, Section
from bench.memory.memory_runs import Run, Subject
from bench.memory.memory_table import Result, Results

DEFAULT_RUNS = 3
Samples = Dict[Tuple[str, str, str], List[memory_cases.Values]]


class Measurement:
    """All runs: round after round, each subject once in each, in an order that rotates."""

    def __init__(self, programs: Dict[str, str], subjects: List[Subject]) -> None:
        self.programs = programs
        self.subjects = subjects
        self.samples: Samples = {}
        self.failures: Dict[Tuple[str, str, str], str] = {}
        self.identities: Dict[str, str] = {}
        self.progress = Progress("memory")

    def once(self, case: Case, subject: Subject) -> Run:
        program = self.programs[case.program]
        if case.program == "random_mixed":
            return memory_runs.random_mixed(program, subject, case.arguments)
        return memory_runs.soak(program, subject, case.arguments_for(subject), case.env)

    def cell(self, case: Case, subject: Subject) -> None:
        key = (case.section, case.name, subject.name)
        if key in self.failures:
            return
        try:
            run = self.once(case, subject)
            self.samples.setdefault(key, []).append(case.values(run))
            self.identities[subject.name] = run.identity
        except (RuntimeError, OSError, ZeroDivisionError) as error:
            self.failures[key] = str(error)

    def section(self, section: Section, cases: List[Case], runs: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(section.at_once) as pool:
            for number in range(max(case.runs or runs for case in cases)):
                round_text = f"{section.name}, round {number + 1}"
                pending = []
                for row, case in enumerate(cases):
                    if number >= (case.runs or runs):
                        continue
                    shift = (number + row) % len(self.subjects)
                    for subject in self.subjects[shift:] + self.subjects[:shift]:
                        pending.append((case, subject, pool.submit(self.cell, case, subject)))
                for place, (case, subject, future) in enumerate(pending):
                    self.progress.show(round_text, f"{case.name} on {subject.name}", place == 0)
                    try:
                        future.result()
                    except IdentityError:
                        pool.shutdown(cancel_futures=True)
                        raise
                    finally:
                        self.progress.clear()

    def results(self, cases: Sequence[Case]) -> Results:
        made: Results = {}
        for case in cases:
            for subject in self.subjects:
                key = (case.section, case.name, subject.name)
                samples = self.samples.get(key, [])
                if key in self.failures or not samples:
                    made[key] = Result(failure=self.failures.get(key, "no run"))
                else:
                    made[key] = Result({name: stats.median([one[name] for one in samples]) for name in samples[0]})
        return made


def parse(argv: List[str]) -> Tuple[argparse.Namespace, List[Section], List[Subject], List[str]]:
    names = [section.name for section in memory_cases.SECTIONS]
    parser = cli.Parser("memory", __doc__)
    parser.add_argument("--quick", action="store_true", help="smoke test: one round of fewer and shorter runs")
    parser.add_argument("--section", metavar="NAME,...", default="all", help=f"only these of {', '.join(names)}")
    parser.add_argument("--runs", metavar="N", type=cli.whole_number(1, 100),
                        help=f"rounds of the sections live, threads and small (default {DEFAULT_RUNS})")
    parser.add_argument("--markdown", metavar="FILE", help="write the table as Markdown to FILE")
    cli.add_common_options(parser)
    args = parser.parse_args(argv)
    wanted = cli.pick(parser, "--section", args.section, names)
    chosen, missing = cli.resolve_common_options(parser, args, floor=False)
    if args.markdown is not None:
        args.markdown = os.path.join(cli.caller_directory(), args.markdown)
        if os.path.isdir(args.markdown) or not os.path.isdir(os.path.dirname(args.markdown)):
            parser.error(f"--markdown: cannot write {args.markdown}")
    args.programs = {"soak_worker": cli.require(parser, "soak/soak_worker"),
                     "random_mixed": cli.require(parser, "workloads/random_mixed")}
    args.runs = args.runs or (1 if args.quick else DEFAULT_RUNS)
    args.sections = wanted
    sections = [section for section in memory_cases.SECTIONS if section.name in wanted]
    return args, sections, memory_runs.subjects_of(chosen), missing


def command_line(args: argparse.Namespace) -> str:
    """The command without file names, which are specific to the machine."""
    words = ["./bazelw run //bench:memory"]
    options = ["--quick"] if args.quick else []
    if len(args.sections) < len(memory_cases.SECTIONS):
        options.append("--section " + ",".join(args.sections))
    if args.runs != (1 if args.quick else DEFAULT_RUNS):
        options.append(f"--runs {args.runs}")
    if args.allocator:
        options.append("--allocator " + ",".join(
            item.partition("=")[0] + ("=" + os.path.basename(item.partition("=")[2]) if "=" in item else "")
            for item in args.allocator.split(",")))
    return " ".join(words + (["--", *options] if options else []))


def without_folder(identity: str) -> str:
    name, _, library = identity.rpartition(" (")
    return f"{name} ({os.path.basename(library)}" if name else identity


def main(argv: List[str]) -> int:
    args, sections, subjects, missing = parse(argv)
    facts = machine.describe()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    cases = [case for section in sections for case in section.cases(args.quick)]
    work = Measurement(args.programs, subjects)
    begin = time.monotonic()
    try:
        for section in sections:
            work.section(section, [case for case in cases if case.section == section.name], args.runs)
    except IdentityError as error:
        sys.stderr.write(f"memory: a run did not use the allocator it names: {error}\n")
        return 1
    seconds = time.monotonic() - begin
    results = work.results(cases)
    made = memory_table.tables(sections, cases, subjects, results)
    head = [f"Harness: {args.runs} rounds of live, threads and small, medians, in {seconds:.0f} s"
            + ("; --quick: too short for claims" if args.quick else "")]
    head += [f"  {s.name:16} {without_folder(work.identities.get(s.name, 'no run succeeded'))}" for s in subjects]
    head += [f"  missing: {line}" for line in missing]
    score = memory_table.score(made, subjects)
    print("\n".join([machine.lines(facts), *head, "", memory_table.text(made), *score]))
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as file:
            file.write("<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Memory\n\n"
                       f"{date}, `{command_line(args)}`.\n\n```\n" + machine.lines(facts) + "\n" + "\n".join(head)
                       + "\n```\n\n" + "\n".join(f"- {line}" for line in score) + "\n\n" + memory_table.markdown(made))
    if args.json:
        document = {"format": 1, "machine": facts, "date": date, "command": command_line(args),
                    "seconds": round(seconds, 1), "allocators": work.identities, "missing": missing,
                    "cases": [{"section": case.section, "name": case.name, "arguments": list(case.arguments),
                               "environment": dict(case.env), "subjects": {
                        subject.name: {
                            "failure": work.failures.get((case.section, case.name, subject.name)),
                            "samples": work.samples.get((case.section, case.name, subject.name), []),
                            "median": results[case.section, case.name, subject.name].values,
                        } for subject in subjects}} for case in cases],
                    "score": score}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    for key, failure in work.failures.items():
        sys.stderr.write(f"memory: {' on '.join(key[1:])} ({key[0]}) failed: {failure}\n")
    return 1 if work.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("\nmemory: interrupted\n")
        sys.exit(130)
