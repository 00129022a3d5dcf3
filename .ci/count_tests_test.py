#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants results that must not count as passed, and checks that count_tests.py notices."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

import count_tests

HERE = os.path.dirname(os.path.abspath(__file__))

REPORT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" name="AllTests"><testsuite name="Box">%s</testsuite></testsuites>
"""
RAN = '<testcase name="Runs" status="run" result="completed" classname="Box" />'
SKIPPED = '<testcase name="Skips" status="run" result="skipped" classname="Box"><skipped message="why"/></testcase>'
DISABLED = '<testcase name="DISABLED_Is" status="notrun" result="suppressed" classname="Box" />'
BAZELS_REPORT = '<testsuites><testsuite name="a/b" tests="1"><testcase name="a/b" status="run"/></testsuite></testsuites>'

LABEL = "//box:box_test"


class Count(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.events = []
        self.lines = []

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as stream:
            stream.write(text)
        return self.path(name)

    def add(self, report, log="", label=LABEL, status="PASSED", **result):
        """Adds the events of a test with this report and log."""
        number = len(self.events)
        outputs = [{"name": "test.log", "uri": "file://" + self.write("log%d" % number, log)}]
        if report:
            outputs.append({"name": "test.xml", "uri": "file://" + self.write("report%d" % number, report)})
        self.events.append({"id": {"targetCompleted": {"label": label}}, "completed": {"success": True}})
        self.events.append({"id": {"testResult": {"label": label}}, "testResult": dict(testActionOutput=outputs, **result)})
        self.events.append({"id": {"testSummary": {"label": label}}, "testSummary": {"overallStatus": status}})

    def count(self, stage="gcc", status=0):
        events = self.write("events", "".join(json.dumps(event) + "\n" for event in self.events))
        listed = self.write("not_run.txt", "".join(line + "\n" for line in self.lines))
        arguments = ["count_tests.py", stage, events, str(status), self.path("seen")]
        with unittest.mock.patch.object(count_tests, "LIST", listed), unittest.mock.patch.object(
            count_tests, "read_list", lambda: READ_LIST(listed)
        ), unittest.mock.patch.object(sys, "argv", arguments), unittest.mock.patch("builtins.print") as printed:
            count_tests.main()
        counts = printed.call_args_list[0][0]
        return counts, printed.call_args_list[1][0][0]

    def test_a_test_that_passes(self):
        self.add(REPORT % RAN)
        self.assertEqual(self.count(), ((1, 0, 0, 1), ""))

    def test_a_planted_skip_fails(self):
        self.add(REPORT % (RAN + SKIPPED))
        counts, text = self.count()
        self.assertEqual(counts, (0, 1, 1, 1))
        self.assertIn("NOT_RUN Box.Skips", text)

    def test_a_planted_disabled_test_fails(self):
        self.add(REPORT % (RAN + DISABLED))
        counts, text = self.count()
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("NOT_RUN Box.DISABLED_Is", text)

    def test_a_listed_skip_passes_in_its_stage_alone(self):
        self.add(REPORT % (RAN + SKIPPED))
        self.lines = ["tsan //box:* Box.Skips it needs what the sanitizer forbids"]
        self.assertEqual(self.count("tsan")[0], (1, 0, 1, 1))
        self.assertEqual(self.count("gcc")[0], (0, 1, 1, 1))

    def test_a_line_for_all_stages_but_one(self):
        self.add(REPORT % (RAN + SKIPPED))
        self.lines = ["!tsan //box:* Box.Skips only the sanitizer can"]
        self.assertEqual(self.count("gcc")[0], (1, 0, 1, 1))
        self.assertEqual(self.count("tsan")[0], (0, 1, 1, 1))

    def test_a_listed_case_that_runs_fails(self):
        self.add(REPORT % RAN)
        self.lines = ["* //box:* Box.Runs no reason any more"]
        counts, text = self.count()
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("RAN Box.Runs, which line 1", text)

    def test_what_the_machine_decides_may_run(self):
        self.add(REPORT % RAN)
        self.lines = ["?* //box:* Box.Runs where the kernel can"]
        self.assertEqual(self.count()[0], (1, 0, 0, 1))

    def test_a_target_that_ran_nothing_has_not_passed(self):
        self.add(REPORT % SKIPPED)
        self.lines = ["* //box:* Box.Skips not here"]
        self.assertEqual(self.count()[0], (0, 0, 1, 0))

    def test_a_report_without_cases_fails(self):
        self.add(REPORT % "")
        counts, text = self.count()
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("NOTHING_RAN", text)

    def test_a_planted_cached_result_fails(self):
        for how in ({"cachedLocally": True}, {"executionInfo": {"cachedRemotely": True}}):
            self.events = []
            self.add(REPORT % RAN, **how)
            counts, text = self.count()
            self.assertEqual(counts[:2], (0, 1), how)
            self.assertIn("CACHED", text)

    def test_a_script_that_says_it_skipped(self):
        self.add(BAZELS_REPORT, log="SKIPPED: php is not installed\nOK\n")
        counts, text = self.count()
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("NOT_RUN php_is_not_installed", text)

    def test_googletest_within_a_script(self):
        self.add(BAZELS_REPORT, log="[  SKIPPED ] Box.Skips (0 ms)\n  YOU HAVE 2 DISABLED TESTS\n")
        counts, text = self.count()
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("Box.Skips", text)
        self.assertIn("DISABLED_x2", text)

    def test_a_python_test_that_skips(self):
        self.add(BAZELS_REPORT, log="Ran 4 tests in 0.1s\n\nOK (skipped=1)\n")
        self.assertEqual(self.count()[0][:2], (0, 1))

    def test_a_test_that_fails_or_hangs(self):
        for status in ("FAILED", "TIMEOUT", "FLAKY", "NO_STATUS"):
            self.events = []
            self.add(REPORT % RAN, status=status)
            self.assertEqual(self.count(status=3)[0][:2], (0, 1), status)

    def test_a_target_that_does_not_build(self):
        self.events = [{"id": {"targetCompleted": {"label": LABEL}}, "completed": {}}]
        counts, text = self.count(status=1)
        self.assertEqual(counts[:2], (0, 1))
        self.assertIn("FAILED_TO_BUILD", text)

    def test_a_run_of_nothing_and_a_failure_without_a_name(self):
        self.assertEqual(self.count(status=1)[1], "no test ran")
        self.add(REPORT % RAN)
        self.assertEqual(self.count(status=36)[1], "Bazel failed with status 36")

    def test_the_list_needs_its_four_columns(self):
        self.add(REPORT % RAN)
        self.lines = ["gcc //box:* Box.Skips"]
        with self.assertRaises(ValueError):
            self.count()

    def test_a_line_that_nothing_matches_is_found(self):
        with open(self.path("seen"), "w", encoding="utf-8") as stream:
            stream.write("")
        found = subprocess.run(
            [sys.executable, os.path.join(HERE, "not_run.py"), self.path("seen")], stdout=subprocess.PIPE, text=True, check=False
        )
        lines = [line for line in count_tests.read_list() if line.always]
        self.assertEqual(found.returncode, 1 if lines else 0)
        self.assertEqual(len(found.stdout.splitlines()), len(lines))


READ_LIST = count_tests.read_list

if __name__ == "__main__":
    unittest.main()
