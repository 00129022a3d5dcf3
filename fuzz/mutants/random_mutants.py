#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws small bugs at random from all sources of the allocator, and determines which test notices each.

    python3 fuzz/mutants/random_mutants.py --judge 20             the next 20 that the seed draws
    python3 fuzz/mutants/random_mutants.py --judge 5 --file F     of one file only
    python3 fuzz/mutants/random_mutants.py --missing              again, where the code or the tests have changed
    python3 fuzz/mutants/random_mutants.py --only KEY...          these again
    python3 fuzz/mutants/random_mutants.py --draw 20              judges nothing: compiles the next 20, and shows them
    python3 fuzz/mutants/random_mutants.py --explain KEY TEXT     records why a survivor survives
    python3 fuzz/mutants/random_mutants.py --report               only writes the page again

random_draw.py describes the bugs. The commit that is checked out is judged, in a clone of its own. A mutant is compiled
first, for STANDARD and, if that makes the same code, for OBSERVE and HARDENED; one that makes the same code in all of them
is not judged. A weaker memory order is compiled and judged under ThreadSanitizer. Then the tests of its box run, then those
of its room and a few of the whole allocator, then (--until) more, until one fails, which must pass without the mutant.
Every verdict is written at once to fuzz/mutants/random_results.json and to docs/analysis/testing/random-mutants.md.

Exit status: 0; 2: it could not be done.
"""

import argparse
import os
import pathlib
import re
import sys
import time

import random_draw
import random_results
import run_mutants
import tables
from random_tree import BUILDS, Failure, Tree, builds, is_refused, must, run

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
RESULTS = FOLDER / "random_results.json"
PAGE = ROOT / "docs/analysis/testing/random-mutants.md"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "hakmem"
# Tests of the whole allocator that notice much and take little.
LIKELY = ["//allocator/test:stateful_random_test", "//allocator/test:misuse_test", "//allocator/test:threads_test",
          "//allocator/test:override_test", "//allocator/test:fork_test", "//fuzz:heap_ops_fuzzer"]
STAGES = ("likely", "wide", "whole")
# A bug may leave a variable unused or a comparison without effect, and warnings are errors.
QUIET = ("pragmas", "unknown-warning-option", "unused", "unused-variable", "unused-parameter", "unused-function",
         "unused-but-set-variable", "unused-but-set-parameter", "unused-value", "unused-label", "type-limits", "uninitialized",
         "maybe-uninitialized", "return-type", "logical-op", "duplicated-cond", "conversion", "sign-conversion",
         "tautological-compare", "bool-compare", "array-bounds", "stringop-overflow", "empty-body", "dangling-else",
         "misleading-indentation", "implicit-fallthrough", "parentheses", "int-in-bool-context", "address", "nonnull",
         "shift-count-overflow", "div-by-zero", "overflow", "infinite-recursion", "missing-prototypes",
         "missing-variable-declarations", "sometimes-uninitialized", "loop-analysis", "unneeded-internal-declaration",
         "null-dereference", "format-overflow", "format-truncation", "restrict", "jump-misses-init", "free-nonheap-object")


# ---- Which test notices it -------------------------------------------------------------------------------------------

def all_tests(tree):
    """The labels of all tests, also of the copies for other profiles."""
    query = "let all = tests(//allocator/... + //fuzz/...) in $all except attr(tags, 'manual', $all)"
    done = run([tree.path / "bazelw", "query", "--noshow_progress", query], tree.path)
    labels = [line for line in done.stdout.splitlines() if re.fullmatch(r"//[\w/.-]+:[\w.+-]+", line)]
    if done.returncode != 0 or not labels:
        raise Failure(f"bazel query: {done.stdout[-2000:]}")
    return labels


def box_tests(tree, file):
    """The labels of the tests that docs/BOXES.md names for the box of `file`."""
    box = file.removeprefix("allocator/").rpartition(".")[0]
    found = []
    for line in tree.text("docs/BOXES.md").splitlines():
        cells = re.split(r" *(?<!\\)\| *", line)
        if len(cells) > 3 and f"`{box}`" in cells[1]:
            for path in re.findall(r"`([\w/.]+)\.\w+`", cells[-2]):
                folder, _, name = path.rpartition("/")
                found.append(f"//allocator/{folder}:{name}")
    return found


def stages(tree, mutant, build, until):
    """(name of the stage, arguments of Bazel) in the order in which they run."""
    known = tree.note("tests", "all", lambda: all_tests(tree))
    room = f"//allocator/{mutant.file.split('/')[1]}:"
    near = [label for label in known if label.startswith(room) and not tables.COPY.search(label)] + LIKELY
    own = box_tests(tree, mutant.file)
    near = [label for label in dict.fromkeys(near) if label not in own]
    if build == "observe":
        # The copies need no configuration of their own.
        parts = [[f"{label}_{profile}" for label in own + near for profile in ("observe", "hardened")]]
    else:
        parts = [own, near]
    parts = [[label for label in part if label in known] for part in parts]
    listed = [("likely", ["--"] + part) for part in parts if part]
    filters = "--test_tag_filters=-other-profile"
    if build == "tsan":
        filters += ",-malloc-override,-uninstrumented"  # as in .bazelrc, which this replaces
    if until in ("wide", "whole") and build != "observe":
        listed.append(("wide", [filters, "--test_size_filters=small,medium", "--", "//allocator/...", "//fuzz/...",
                                "-//fuzz/mutants/..."]))
    if until == "whole" and build == "standard":
        listed.append(("whole", ["--", "//...", "-//fuzz/mutants/..."]))
    return listed


def bazel_test(tree, build, arguments, options):
    """(exit status, tests that failed, output); exit status None: it took longer than options.wall."""
    command = [str(tree.path / "bazelw"), "test", "--config=ci", "--nokeep_going", "--test_output=summary",
               f"--test_timeout={options.budget}", f"--jobs={options.jobs}", "--noremote_upload_local_results"]
    if build in ("hardened", "tsan"):
        command.append(f"--config={build}")
    if build != "tsan":
        # A bug may make a program ask for memory for ever.
        command.append("--run_under=/usr/bin/prlimit --data=8589934592 --")
    if (CACHE / "bazel").is_dir():
        command.append(f"--disk_cache={CACHE / 'bazel'}")
    return run_mutants.run_bazel(tree.path, command, arguments, options.wall)


def passes_without(tree, build, label, options):
    """Whether the test passes with nothing planted. That it does is noted for the commit."""
    name = f"{build} {label}"
    if name not in tree.known.get("controls", {}):
        if bazel_test(tree, build, ["--", label], options)[0] != 0:
            return False
        tree.note("controls", name, lambda: True)
    return True


def judge_in(tree, mutant, build, options):
    """The verdict on one mutant in one build, as fields of its record."""
    original = tree.text(mutant.file)
    # On the first line, which is a comment in every source, so that the lines keep their numbers.
    quiet = " ".join(f'_Pragma("GCC diagnostic ignored \\"-W{name}\\"")' for name in QUIET)
    first, _, rest = mutant.apply(original).partition("\n")
    if not first.startswith("//"):
        raise Failure(f"{mutant.file} does not begin with a comment")
    passed = ""
    for name, arguments in stages(tree, mutant, build, options.until):
        tree.plant(mutant.file, f"{quiet} {first}\n{rest}")
        try:
            status, failed, output = bazel_test(tree, build, arguments, options)
        finally:
            tree.plant(mutant.file, original)
        if failed:
            label, outcome, _ = failed[0]
            if not passes_without(tree, build, label, options):
                raise Failure(f"{label} does not pass in the build {build} with nothing planted")
            verdict = random_results.HANGS if outcome == "TIMEOUT" else random_results.KILLED
            return {"verdict": verdict, "killer": run_mutants.describe(failed[:1])}
        if status == 1 and re.search(rf"^{re.escape(mutant.file)}:\d+:\d+: error:", output, re.M):
            return {"verdict": random_results.BROKEN}
        if status not in (0, 4):
            raise Failure(f"{mutant.key}: bazel ended with status {status} and no test result: {output[-3000:]}")
        if status == 0:  # 4: the filters left no test
            passed = name
    return {"verdict": random_results.SURVIVED, "passed": passed or "none"}


def judge(tree, mutant, options):
    """The verdict on one mutant, as fields of its record."""
    verdict, survived = {"verdict": random_results.SAME}, []
    for build in builds(tree, mutant):
        if build == random_results.BROKEN:
            # Where it compiles it has been judged.
            return verdict if survived else {"verdict": build}
        if not survived and is_refused(tree, mutant):
            return {"verdict": random_results.KILLED, "killer": tables.COMPILER, "build": "clang"}
        found = judge_in(tree, mutant, build, options)
        if found["verdict"] != random_results.SURVIVED:
            return dict(found, build=build)
        survived.append(build)
        verdict = dict(found, build=", ".join(survived))
    return verdict


# ---- The run ---------------------------------------------------------------------------------------------------------

def record_of(tree, mutant, options, verdict):
    record = {"seed": options.seed, "commit": tree.commit[:7], "file": mutant.file, "line": mutant.line, "kind": mutant.kind}
    record.update(verdict)
    if verdict["verdict"] in random_results.JUDGED:
        record.update(old=mutant.old, new=mutant.new)
        record["digest"] = tables.contents(tree.path, mutant.file, tables.label_of(record.get("killer", "")))
    return record


def judge_all(tree, todo, wanted, records, options):
    """Judges of `todo` in its order until `wanted` have a verdict of a test."""
    count = failures = 0
    for mutant in todo:
        if count == wanted or options.end and time.time() > options.end:
            break
        before = time.monotonic()
        if options.draw:
            build = next(builds(tree, mutant), random_results.SAME)
            print(f"{mutant.key} {mutant.file}:{mutant.line} {mutant.kind} [{build}]: {mutant.old!r} -> {mutant.new!r}")
            count += build in BUILDS
            continue
        try:
            verdict = judge(tree, mutant, options)
            failures = 0
        except Failure as error:
            # Such as a test that fails now and then. A machine on which nothing can be judged is another matter.
            print(f"{mutant.key} {mutant.file}:{mutant.line} {mutant.kind}: no verdict: {error}", file=sys.stderr, flush=True)
            failures += 1
            if failures == 3:
                raise
            continue
        count += verdict["verdict"] in random_results.JUDGED
        old = records.get(mutant.key, {})
        records[mutant.key] = record_of(tree, mutant, options, verdict)
        if verdict["verdict"] == random_results.SURVIVED and "explanation" in old:
            records[mutant.key]["explanation"] = old["explanation"]
        save(records)
        print(f"{mutant.key} {mutant.file}:{mutant.line} {mutant.kind}: {verdict['verdict']} {verdict.get('killer', '')} "
              f"[{time.monotonic() - before:.0f} s]", flush=True)


def save(records):
    random_results.write(RESULTS, records)
    PAGE.write_text(random_results.render(records), encoding="utf-8")


def chosen(tree, records, options):
    """(the mutants in the order in which to judge them, how many of them)"""
    listed = [m for file in tree.sources() for m in random_draw.mutants(file, tree.text(file))]
    if options.file and options.file not in tree.sources():
        raise Failure(f"{options.file} is none of the sources from which mutants are drawn")
    if options.only:
        by_key = {m.key: m for m in listed}
        unknown = [key for key in options.only if key not in by_key]
        if unknown:
            raise Failure(f"no mutant of this commit is {', '.join(unknown)}")
        return [by_key[key] for key in options.only], len(options.only)
    ordered = [m for m in random_draw.order_of_judging(listed, options.seed) if not options.file or m.file == options.file]
    if options.missing:
        stale = {key for key, r in records.items()
                 if r["verdict"] in random_results.JUDGED and not random_results.is_current(tree.path, r)}
        todo = [m for m in ordered if m.key in stale]
        return todo, len(todo)
    return [m for m in ordered if m.key not in records], options.judge or options.draw


def work(options):
    records = random_results.read(RESULTS)
    if options.explain:
        key, text = options.explain
        if records.get(key, {}).get("verdict") != random_results.SURVIVED:
            raise Failure(f"{key} is not a survivor")
        records[key]["explanation"] = text
    elif not options.report:
        tree = Tree(options.tree, ROOT, must(["git", "rev-parse", "HEAD"], ROOT).strip())
        todo, wanted = chosen(tree, records, options)
        judge_all(tree, todo, wanted, records, options)
    save(records)
    judged = [r for r in records.values() if r["verdict"] in random_results.JUDGED]
    print(f"{sum(r['verdict'] != random_results.SURVIVED for r in judged)} killed / {len(judged)} judged")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--judge", type=int, metavar="N", help="the next N")
    which.add_argument("--draw", type=int, metavar="N", help="show the next N, and which build they change")
    which.add_argument("--missing", action="store_true", help="those whose code or tests have changed")
    which.add_argument("--only", nargs="+", metavar="KEY", help="these, also if they have a verdict")
    which.add_argument("--explain", nargs=2, metavar=("KEY", "TEXT"), help="why a survivor survives")
    which.add_argument("--report", action="store_true", help="run nothing, write the page")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="another seed draws in another order")
    parser.add_argument("--file", metavar="F", help="only mutants of this source")
    parser.add_argument("--until", choices=STAGES, default="likely", help="the last tests that run on a survivor")
    parser.add_argument("--budget", type=int, default=120, metavar="SECONDS", help="limit of one test")
    parser.add_argument("--wall", type=int, default=2400, metavar="SECONDS", help="limit of one run of Bazel")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="as in Bazel")
    parser.add_argument("--minutes", type=float, default=0, metavar="M", help="begin no mutant after that time")
    parser.add_argument("--tree", type=pathlib.Path, default=CACHE / "mutants/tree", metavar="DIR", help="the clone")
    options = parser.parse_args()
    options.end = time.time() + 60 * options.minutes if options.minutes else 0
    try:
        work(options)
    except (Failure, OSError, ValueError) as error:
        print(f"random_mutants.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
