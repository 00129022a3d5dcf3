#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the allocator with each planted bug, and determines which test notices it.

    python3 fuzz/mutants/run_mutants.py                 all mutants; hours
    python3 fuzz/mutants/run_mutants.py --only NAME...  these
    python3 fuzz/mutants/run_mutants.py --missing       those without a result of the current code and tests
    python3 fuzz/mutants/run_mutants.py --ci            a few that are quick; nothing is recorded
    python3 fuzz/mutants/run_mutants.py --report        only writes the page again

For each mutant first the test that its table names; if that passes, all small and medium tests of the allocator and the
fuzz targets, until one fails. Results go to fuzz/mutants/results.json and the pages docs/analysis/testing/mutants*.md. Before
anything else the same tests run with a mutant that changes nothing, and must pass.

Exit status: 0, or 1 when fewer than 95 of 100 were killed, or one of --only or --ci was not; 2: it could not be done.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import tables

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
RESULTS = FOLDER / "results.json"
PAGES = ROOT / "docs/analysis/testing"
WIDE = ["--test_size_filters=small,medium", "--build_tests_only", "--notest_keep_going", "--", "//allocator/...",
        "//fuzz/...", "-//fuzz/mutants/..."]
LEAST_RATE = 0.95


class Failure(Exception):
    """No verdict is possible."""


def failed_case(log):
    """The first test case that failed, or the one that was running; None: the log names none."""
    try:
        text = pathlib.Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^\[  FAILED  \] ([\w./]+)", text, re.M)
    if found:
        return found.group(1)
    running = re.findall(r"^\[ RUN      \] ([\w./]+)", text, re.M)
    return running[-1] if running else None


def failed_tests(events):
    """(label, status, test case) of each test that did not pass, from a build event file."""
    found = []
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        result = event.get("testResult")
        if result is None or result.get("status") in (None, "PASSED", "NO_STATUS"):
            continue
        logs = [out["uri"] for out in result.get("testActionOutput", []) if out["name"] == "test.log" and "uri" in out]
        case = failed_case(logs[0].replace("file://", "", 1)) if logs else None
        found.append((event["id"]["testResult"]["label"], result["status"], case))
    return found


def run_bazel(folder, command, arguments, wall):
    """Runs a Bazel test command in the folder. Returns (exit status, failed tests, output); exit status None: it had not
    ended after `wall` seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        events = pathlib.Path(scratch) / "events.json"
        with open(pathlib.Path(scratch) / "output", "w+", encoding="utf-8", errors="replace") as output:
            process = subprocess.Popen(command + [f"--build_event_json_file={events}"] + arguments, cwd=folder,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            try:
                status = process.wait(wall)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
                status = None
            except KeyboardInterrupt:
                process.wait()
                raise
            output.seek(0)
            return status, failed_tests(events) if events.exists() else [], output.read()


def bazel_test(name, mutant_config, options, arguments, wall):
    """Runs tests of the build with the mutant `name`. Returns what run_bazel does."""
    profile = options.profile if options.profile != "standard" else ""
    suffix = "-".join(part for part in [profile, mutant_config, "mutant"] if part)
    command = [str(ROOT / "bazelw"), "test"]
    if profile:
        command.append(f"--config={profile}")
    if mutant_config:
        command.append(f"--config={mutant_config}")
    command += ["--config=ci", "--nokeep_going", f"--platform_suffix={suffix}", f"--//configs:mutant={name}",
                f"--test_timeout={options.budget}", "--test_output=summary"]
    return run_bazel(ROOT, command, arguments, wall)


def describe(failed):
    label, status, case = failed[0]
    return f"`{label}`" + (f" {case}" if case else "") + (" (hangs)" if status == "TIMEOUT" else "")


def check_control(mutants, options):
    """The judging tests must pass without a planted bug."""
    for config in sorted({mutant.get("config", "") for mutant in mutants}):
        killers = sorted({mutant["killer"] for mutant in mutants if mutant.get("config", "") == config})
        status, failed, output = bazel_test(tables.CONTROL, config, options, ["--"] + killers, None)
        if status != 0:
            what = describe(failed) if failed else "the build"
            print(output[-4000:], file=sys.stderr)
            raise Failure(f"without a bug {what} fails already" + (f" under {config}" if config else ""))
    print(f"control: {len({m['killer'] for m in mutants})} tests pass with nothing planted", flush=True)


def judge(mutant, options):
    """The result of one mutant."""
    config = mutant.get("config", "")
    result = {"digest": tables.digest(mutant), "by": ""}
    status, failed, output = bazel_test(mutant["name"], config, options, ["--", mutant["killer"]], None)
    if status == 0 and not options.ci and not options.killer_only:
        status, failed, output = bazel_test(mutant["name"], config, options, WIDE, options.wide_budget)
    if status in (0, None):
        result["outcome"] = "survived"
    elif failed:
        result["outcome"] = "killed"
        result["by"] = describe(failed)
    elif "error:" in output and status == 1:
        result["outcome"] = "does not build"
        print(output[-3000:], file=sys.stderr)
    else:
        print(output[-3000:], file=sys.stderr)
        raise Failure(f"mutant {mutant['name']}: bazel ended with status {status} and no test result")
    result["contents"] = tables.contents(ROOT, mutant["file"], tables.label_of(result["by"]))
    return result


def chosen(mutants, options, results):
    everything = tables.planted(mutants)
    if options.only:
        names = {mutant["name"] for mutant in everything}
        unknown = [name for name in options.only if name not in names]
        if unknown:
            raise Failure(f"unknown mutant {', '.join(unknown)}; the mutants are {', '.join(sorted(names))}")
        return [mutant for mutant in everything if mutant["name"] in options.only]
    if options.ci:
        return [mutant for mutant in everything if mutant.get("ci")]
    if options.missing:
        return [mutant for mutant in everything if not tables.is_current(ROOT, mutant, results)]
    return everything


def write(mutants, results):
    names = {mutant["name"] for mutant in tables.planted(mutants)}
    kept = {name: results[name] for name in sorted(results) if name in names}
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, text in tables.render(mutants, results).items():
        (PAGES / name).write_text(text, encoding="utf-8")


def run(options):
    mutants = tables.load(FOLDER)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    survivors = 0
    if not options.report:
        # Ordered by configuration, so that each is set up once.
        todo = sorted(chosen(mutants, options, results), key=lambda m: (m.get("config", ""), m["file"]))
        if todo and not options.no_control:
            check_control(todo, options)
        for mutant in todo:
            before = time.monotonic()
            result = judge(mutant, options)
            survivors += result["outcome"] != "killed"
            print(f"{mutant['name']}: {result['outcome']} {result['by']} [{time.monotonic() - before:.0f} s]", flush=True)
            if not options.ci and options.profile == "standard":
                results[mutant["name"]] = result
                write(mutants, results)
    if options.report:
        write(mutants, results)
    if options.ci or options.only:
        return 1 if survivors else 0
    count, of = len(tables.killed(mutants, results)), len(tables.planted(mutants))
    print(f"{count} killed / {of} planted")
    return 0 if count >= LEAST_RATE * of else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", metavar="NAME", help="these mutants")
    which.add_argument("--missing", action="store_true", help="mutants without a result of the current code and tests")
    which.add_argument("--ci", action="store_true", help="only those marked `ci`; records nothing")
    which.add_argument("--report", action="store_true", help="run nothing, write the page")
    parser.add_argument("--profile", default="standard", choices=["standard", "fast", "observe"],
                        help="build profile; results of others than standard are not recorded")
    parser.add_argument("--budget", type=int, default=120, metavar="SECONDS",
                        help="limit of one test; a longer one counts as hanging")
    parser.add_argument("--wide-budget", type=int, default=1800, metavar="SECONDS",
                        help="limit of the wider set, including its build")
    parser.add_argument("--killer-only", action="store_true", help="do not run the wider set")
    parser.add_argument("--no-control", action="store_true", help="do not run the tests without a bug first")
    options = parser.parse_args()
    try:
        return run(options)
    except (Failure, OSError, ValueError) as error:
        print(f"run_mutants.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
