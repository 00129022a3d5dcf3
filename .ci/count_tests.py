#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py STAGE EVENTS.json STATUS [SEEN]: counts the tests of one Bazel run.

EVENTS.json is what --build_event_json_file wrote, STATUS is Bazel's exit status. Prints `PASSED FAILED NOT_RUN CASES` and
below it one line for each failure. PASSED and FAILED count test targets. NOT_RUN counts the cases that were disabled or
skipped, CASES those that ran (googletest's cases; a test of another kind is one case).

These count as failures:
  - a target that does not build, a run that tested nothing, a run that failed without naming a target
  - a target whose result came from a cache, local or remote: it is the result of another run
  - a target that ran no case at all, unless .ci/not_run.txt lists all of them
  - a case that is disabled or was skipped and is not in .ci/not_run.txt
  - a case that .ci/not_run.txt says is never run in this stage, and that ran: the line is out of date

With SEEN, the numbers of the lines of .ci/not_run.txt that a case matched are appended to that file.
"""

import fnmatch
import json
import os
import re
import sys
import urllib.parse
import xml.etree.ElementTree

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "not_run.txt")


class Line:
    """A line of the list: `STAGE  LABEL  CASE  REASON`. `?` before STAGE: it depends on the machine. `!STAGE`: all
    stages except this one."""

    def __init__(self, number, text):
        fields = text.split(None, 3)
        if len(fields) != 4:
            raise ValueError("%s:%d: expected STAGE LABEL CASE REASON" % (LIST, number))
        stage, self.label, self.case, self.reason = fields
        self.number = number
        self.always = not stage.startswith("?")
        self.stage = stage.lstrip("?")

    def holds(self, stage, label, case):
        wanted = not self.stage.startswith("!")
        return (
            any(fnmatch.fnmatchcase(stage, part) for part in self.stage.lstrip("!").split(",")) == wanted
            and any(fnmatch.fnmatchcase(label, part) for part in self.label.split(","))
            and fnmatch.fnmatchcase(case, self.case)
        )


def read_list(path=LIST):
    lines = []
    with open(path, encoding="utf-8") as stream:
        for number, text in enumerate(stream, 1):
            if text.strip() and not text.startswith("#"):
                lines.append(Line(number, text))
    return lines


def local_path(output):
    return urllib.parse.unquote(urllib.parse.urlparse(output.get("uri", "")).path)


def cases_of_log(path):
    """The skipped cases of a test without googletest's report: the words after `SKIPPED` in its log, joined by `_`."""
    skipped = set()
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for text in stream:
                found = re.match(r"\[  SKIPPED \] ([\w./]+)", text) or re.match(r"SKIPPED[: ]+(.*\S)", text)
                if found:
                    skipped.add(re.sub(r"\s+", "_", found.group(1)))
                found = re.search(r"YOU HAVE (\d+) DISABLED TEST", text)
                if found:
                    skipped.add("DISABLED_x%s" % found.group(1))
                found = re.match(r"OK \(skipped=(\d+)\)", text)
                if found:
                    skipped.add("unittest_x%s" % found.group(1))
    except OSError:
        pass
    return {"whole"}, skipped


def cases(outputs):
    """(cases that ran, cases that did not) of one test, from its report or, without one, its log."""
    report = outputs.get("test.xml", "")
    try:
        root = xml.etree.ElementTree.parse(report).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return cases_of_log(outputs.get("test.log", ""))
    if root.get("name") != "AllTests":  # Bazel's own report for a test that wrote none
        return cases_of_log(outputs.get("test.log", ""))
    ran, left = set(), set()
    for case in root.iter("testcase"):
        name = "%s.%s" % (case.get("classname"), case.get("name"))
        did_not = case.get("status") == "notrun" or case.get("result") == "skipped" or case.find("skipped") is not None
        (left if did_not else ran).add(name)
    return ran, left


def outcomes(path):
    """The results of all targets: {label: [problem...]} of those that failed, and {label: outputs} of those tested."""
    tested, broken, outputs = {}, {}, {}
    cached = set()
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            event = json.loads(line)
            identity = event["id"]
            if "testResult" in identity and "testResult" in event:
                label, result = identity["testResult"]["label"], event["testResult"]
                if result.get("cachedLocally") or result.get("executionInfo", {}).get("cachedRemotely"):
                    cached.add(label)
                files = {output.get("name"): local_path(output) for output in result.get("testActionOutput", [])}
                outputs.setdefault(label, []).append(files)
            elif "testSummary" in identity and "testSummary" in event:
                status = event["testSummary"].get("overallStatus", "NO_STATUS")
                tested[identity["testSummary"]["label"]] = [] if status == "PASSED" else [status]
            elif "targetCompleted" in identity:
                if "aborted" in event or not event.get("completed", {}).get("success", False):
                    broken[identity["targetCompleted"]["label"]] = ["FAILED_TO_BUILD"]
            elif "targetConfigured" in identity and "reason" in event.get("aborted", {}):
                # Without a reason it is a named target that is not needed: a flag of .bazelrc with --build_tests_only.
                # Other problems show in Bazel's exit status.
                broken[identity["targetConfigured"]["label"]] = ["FAILED_TO_ANALYSE"]
    for label in cached:
        tested.setdefault(label, []).append("CACHED: the result is that of another run")
    # The target of a failed test did not complete either, but the test's own result says more.
    return {**broken, **tested}, outputs


def judge(stage, label, runs, lines, seen):
    """Problems of one tested target, and how many of its cases ran and did not."""
    problems = []
    ran, left = set(), set()
    for files in runs:
        some_ran, some_left = cases(files)
        ran |= some_ran
        left |= some_left
    for case in sorted(left):
        matching = [line for line in lines if line.holds(stage, label, case)]
        seen.update(line.number for line in matching)
        if not matching:
            problems.append("NOT_RUN %s is disabled or skipped and not in .ci/not_run.txt" % case)
    for case in sorted(ran - {"whole"}):
        for line in lines:
            if line.holds(stage, label, case):
                seen.add(line.number)
                if line.always:
                    problems.append("RAN %s, which line %d of .ci/not_run.txt says is never run" % (case, line.number))
    if not ran and not left:
        problems.append("NOTHING_RAN")
    return problems, len(ran), len(left)


def main():
    stage, path, status = sys.argv[1], sys.argv[2], int(sys.argv[3])
    found, outputs = {}, {}
    try:
        found, outputs = outcomes(path)
    except (OSError, ValueError) as error:
        print("count_tests.py: %s" % error, file=sys.stderr)
    lines = read_list()
    seen = set()
    passed, not_run, case_count = 0, 0, 0
    failures = []
    for label, problems in sorted(found.items()):
        if label in outputs and not problems:
            problems, ran, left = judge(stage, label, outputs[label], lines, seen)
            case_count += ran
            not_run += left
            # A target with all cases on the list has not passed, because nothing of it ran.
            if not problems and ran == 0:
                continue
        if problems:
            failures += ["%s %s" % (label, problem) for problem in problems[:1]]
            failures += ["  also: %s" % problem for problem in problems[1:]]
        else:
            passed += 1
    failed = sum(1 for failure in failures if not failure.startswith("  "))
    if not found:
        failures.append("no test ran")
        failed = 1
    elif status != 0 and not failures:
        failures.append("Bazel failed with status %d" % status)
        failed = 1
    print(passed, failed, not_run, case_count)
    print("\n".join(failures))
    if len(sys.argv) > 4:
        with open(sys.argv[4], "a", encoding="utf-8") as stream:
            stream.writelines("%d\n" % number for number in seen)


if __name__ == "__main__":
    main()
