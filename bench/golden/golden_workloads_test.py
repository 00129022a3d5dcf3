# SPDX-License-Identifier: Apache-2.0
"""The golden instructions of six workloads: the tool, and whether this build has them."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from bench.golden import golden_workloads as tool
from bench.workloads import table

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.dirname(HERE)
PROGRAM = os.path.realpath(os.path.join(BENCH, "workloads", "random_mixed"))
LIBRARY = os.path.realpath(os.path.join(BENCH, "lib", "libhakmem_fast.so"))
CLOCK = os.path.realpath(os.path.join(HERE, "libstill_clock.so"))
# As short as their paths allow: medium and large blocks that return their memory after a time, and threads.
SHORT = (tool.Run("large", 2000, ""), tool.Run("thread_churn", 20, ""))


class RepeatTest(unittest.TestCase):
    def test_a_count_repeats_wherever_the_stack_is(self):
        for run in SHORT:
            counts = [tool.count(PROGRAM, LIBRARY, CLOCK, run, {"PADDING": "x" * size}) for size in (1, 3001, 70000)]
            self.assertEqual(len(set(counts)), 1, f"{run.workload}: {counts}")

    def test_a_run_without_the_still_clock_is_refused(self):
        noop = os.path.realpath(os.path.join(BENCH, "lib", "libnoop.so"))
        with self.assertRaisesRegex(tool.CountError, "large: .* did not read the clock"):
            tool.count(PROGRAM, LIBRARY, noop, SHORT[0])

    def test_another_allocator_is_refused(self):
        noop = os.path.realpath(os.path.join(BENCH, "lib", "libnoop.so"))
        with self.assertRaisesRegex(tool.CountError, "mixed-400: .*noop"):
            tool.count(PROGRAM, noop, CLOCK, tool.Run("mixed-400", 1000, ""))

    def test_a_run_that_fails_is_an_error(self):
        with self.assertRaisesRegex(tool.CountError, "nope: exit status 2: "):
            tool.count(PROGRAM, LIBRARY, CLOCK, tool.Run("nope", 1000, ""))


class TableTest(unittest.TestCase):
    def test_more_than_the_tolerance_is_told(self):
        golden = {"large": [2000000, 100000]}
        for instructions in (1998000, 2000000, 2002000):
            self.assertEqual(tool.differences("k", golden, {"large": (instructions, 100000)}), [])
        self.assertEqual(tool.differences("k", golden, {"large": (2100000, 100000)}),
                         ["k: large: 2000000 -> 2100000 instructions (+5.00%; 20.00 -> 21.00 an operation)"])
        self.assertEqual(len(tool.differences("k", golden, {"large": (1997000, 100000)})), 1)
        # A build or a workload that the table does not have, and another number of operations.
        self.assertEqual(len(tool.differences("k", {}, {"large": (2000000, 100000)})), 1)
        self.assertEqual(len(tool.differences("k", golden, {"large": (2000000, 100001)})), 1)

    def test_file_and_page_have_all_of_it(self):
        made = {"b": {run.workload: [30, 4] for run in tool.RUNS}}
        self.assertEqual(json.loads(tool.as_json(made)), made)
        self.assertEqual(tool.page(made).count("| b | 4 | 30 | 7.50 |"), len(tool.RUNS))

    def test_the_page_shows_the_table(self):
        with open(os.path.join(os.path.dirname(BENCH), tool.PAGE), encoding="utf-8") as file:
            self.assertEqual(file.read(), tool.page(tool.read_table()))

    def test_the_workloads_are_rows_of_the_suite(self):
        self.assertEqual(len(tool.RUNS), 6)
        self.assertLessEqual({run.workload for run in tool.RUNS}, {row.name for row in table.WORKLOADS})

    def test_the_counts_of_this_build_are_golden(self):
        lines = io.StringIO()
        self.assertEqual(tool.check(tool.PROFILES, lines), 0, lines.getvalue())


class CommandLineTest(unittest.TestCase):
    def run_tool(self, *args, **env):
        return subprocess.run([sys.executable, "-B", os.path.join(HERE, "golden_workloads.py"), *args],
                              env={**os.environ, **env}, capture_output=True, text=True, timeout=240, check=False)

    def test_mistakes(self):
        for case in (["--nope"], ["positional"], ["--profiles", "slow"], ["--profiles", ""], ["--profiles"]):
            done = self.run_tool(*case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage:", done.stderr, case)

    def test_a_table_that_is_cut_or_of_another_form(self):
        whole = tool.as_json({"b": {run.workload: [30, 4] for run in tool.RUNS}})
        for text in (whole[:-9], "", "[]", "[1]", '{"b": 1}', '{"b": {"large": [1]}}', '{"b": {"large": [1, "2"]}}',
                     '{"b": {"large": [1, -2]}}', "[" * 100000):
            with tempfile.TemporaryDirectory() as directory:
                for name in ("workloads.json", "golden.json"):
                    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                        file.write(text)
                for module, name in ((tool, "workloads.json"), (tool.golden, "golden.json")):
                    said = io.StringIO()
                    with unittest.mock.patch.object(module, "HERE", directory), contextlib.redirect_stderr(said), \
                            self.assertRaises(SystemExit) as ended:
                        module.main([])
                    self.assertEqual(ended.exception.code, 2, text[:40])
                    self.assertRegex(said.getvalue(), f"^golden\\w*: {name} is [^\n]+\nusage: ")

    def test_without_valgrind(self):
        with tempfile.TemporaryDirectory() as empty:
            # readelf, which tells the compiler, is found; valgrind is not.
            os.symlink(subprocess.check_output(["which", "readelf"], text=True).strip(), os.path.join(empty, "readelf"))
            done = self.run_tool("--profiles", "fast", PATH=empty)
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (1, "", "golden_workloads: valgrind is not installed\n"))


if __name__ == "__main__":
    unittest.main()
