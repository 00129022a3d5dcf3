# SPDX-License-Identifier: Apache-2.0
"""The memory table: its command line, its check of the allocator, its verdicts, and the form of its output."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.lib import allocators
from bench.lib.allocators import Allocator
from bench.memory import memory_cases
from bench.memory import memory_table
from bench.memory.memory_runs import Run, Subject, subjects_of
from bench.memory.memory_table import Result

BENCH = allocators.BENCH


def run(*args, **env):
    return subprocess.run(
        [sys.executable, "-B", os.path.join(BENCH, "memory", "memory.py"), *args],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=240, check=False,
    )


class CommandLineTest(unittest.TestCase):
    def test_mistakes(self):
        for case in (
            ("--nope",), ("positional",), ("--qui",), ("--runs", "0"), ("--section", "nope"), ("--section", ""),
            ("--allocator", "nope"), ("--allocator", "noop"), ("--markdown", "/no/such/folder/file.md"),
            ("--json", "/no/such/folder/file.json"),
        ):
            done = run(*case)
            self.assertEqual(done.returncode, 2, case)
            self.assertIn("usage:", done.stderr, case)
            self.assertEqual(done.stdout, "", case)

    def test_help(self):
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_another_allocator_under_the_name(self):
        noop = os.path.join(BENCH, "lib", "libnoop.so")
        done = run("--quick", "--section", "small", "--allocator", "glibc,mimalloc=" + noop)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("a run did not use the allocator it names", done.stderr)


class VerdictTest(unittest.TestCase):
    FAST, STANDARD = Allocator("hakmem-fast", "/f.so"), Allocator("hakmem-standard", "/s.so")

    def setUp(self):
        self.fast, self.balanced, self.speed, self.lean, self.glibc = subjects_of(
            [self.FAST, self.STANDARD, Allocator("glibc", None)])

    def judge(self, section, subject, values, **more):
        case = memory_cases.Case(section, "x", (), lambda _: {}, **more)
        return memory_cases.verdict(section, case, subject, values)

    def test_subjects(self):
        names = [s.name for s in (self.fast, self.balanced, self.speed, self.lean, self.glibc)]
        self.assertEqual(names, ["hakmem-fast", "balanced", "speed", "lean", "glibc"])
        self.assertEqual(self.lean.environment({"A": "1"})["HAKMEM_PROFILE"], "lean")
        self.assertTrue(self.glibc.is_peer and not self.balanced.is_peer)

    def test_freeall(self):
        target, lean = memory_cases.BACK_TARGET, memory_cases.BACK_TARGET_LEAN
        self.assertTrue(self.judge("freeall", self.balanced, {"2 s": target}))
        self.assertFalse(self.judge("freeall", self.balanced, {"2 s": target + 0.1, "5 s": 1.0}))
        self.assertTrue(self.judge("freeall", self.lean, {"2 s": lean}))
        self.assertFalse(self.judge("freeall", self.lean, {"2 s": lean + 0.1}))
        self.assertTrue(self.judge("freeall", self.speed, {"2 s": 100.0, "12 s": 4.0}))
        self.assertIsNone(self.judge("freeall", self.speed, {"2 s": 100.0}))
        self.assertIsNone(self.judge("freeall", self.glibc, {"2 s": 100.0}))
        self.assertIsNone(self.judge("freeall", self.fast, {"2 s": 100.0}, env={"HAKMEM_BACKGROUND": "1"}))

    def test_others(self):
        self.assertTrue(self.judge("consumer", self.lean, {"rss": 3.0, "above start": 1.2}))
        self.assertFalse(self.judge("consumer", self.lean, {"rss": 1.0, "above start": 1.21}))
        self.assertTrue(self.judge("threads", self.lean, {"after 500, KiB": 1000, "after 10,000, KiB": 1256}))
        self.assertFalse(self.judge("threads", self.lean, {"after 500, KiB": 1000, "after 10,000, KiB": 1257}))
        self.assertTrue(self.judge("small", self.balanced, {"MiB": 2.05}))
        self.assertFalse(self.judge("small", self.lean, {"MiB": 2.05}))
        self.assertIsNone(self.judge("small", self.speed, {"MiB": 2.05}))
        self.assertTrue(self.judge("calls", self.fast, {"calls": 2, "operations": 2e8}))
        self.assertFalse(self.judge("calls", self.fast, {"calls": 3, "operations": 2e8}))

    def test_ratio_is_to_the_best_peer(self):
        subjects = [self.balanced, self.glibc, Subject("jemalloc", Allocator("jemalloc", "/j.so"))]
        case = memory_cases.Case("live", "x", (), lambda _: {})
        results = {("live", "x", s.name): Result({"peak: rss": value, "peak: above start": 1.0})
                   for s, value in zip(subjects, (1.2, 1.0, 1.5))}
        made = memory_table.tables(memory_cases.SECTIONS[:1], [case], subjects, results)
        self.assertEqual([str(cell) for cell in made[0].rows[0][1]], ["1.200", "1.000*", "1.500"])
        self.assertEqual([str(cell) for cell in made[1].rows[0][1]], ["1.200 NOT MET"])
        self.assertEqual(memory_table.score(made, subjects), ["balanced: 0 of 1 targets met"])

    def test_calls_after_the_warm_up_only(self):
        row = {name: 0.0 for name in memory_cases.CALLS}
        rows = [{**row, "ops": 2e7, "mmap_calls": 50.0}, {**row, "ops": 1e8, "madvise_calls": 3.0}]
        case = memory_cases.calls_cases(False)[0]
        self.assertEqual(case.values(Run(rows=rows)), {"calls": 3.0, "operations": 1e8})
        rows[1]["mmap_calls"] = -1.0
        rows[0]["mmap_calls"] = -1.0
        with self.assertRaises(RuntimeError):
            case.values(Run(rows=rows))


class OutputTest(unittest.TestCase):
    def test_all_sections(self):
        names = "glibc,hakmem-fast,hakmem-standard"
        with tempfile.TemporaryDirectory() as directory:
            done = run("--quick", "--allocator", names, "--json", "out.json", "--markdown", "out.md",
                       BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
            with open(os.path.join(directory, "out.md"), encoding="utf-8") as file:
                markdown = file.read()
        for words in ("Machine:", "balanced", "lean", "steady-100k trough", "phase small again", "no call",
                      "queue of 65,536", "10,000 short threads", "20,000 slots", "targets met"):
            self.assertIn(words, done.stdout)
        self.assertNotIn("FAILED", done.stdout)
        self.assertNotIn("\r", done.stderr)
        self.assertTrue(markdown.startswith("<!-- SPDX-License-Identifier: Apache-2.0 -->\n"))
        self.assertIn(f"`./bazelw run //bench:memory -- --quick --allocator {names}`", markdown)
        self.assertNotIn(directory, markdown)
        self.assertNotIn(BENCH, markdown)
        cases = {(case["section"], case["name"]): case["subjects"] for case in document["cases"]}
        self.assertEqual({section for section, _ in cases}, {section.name for section in memory_cases.SECTIONS})
        for name, subjects in cases.items():
            self.assertEqual(set(subjects), {"glibc", "hakmem-fast", "balanced", "speed", "lean"}, name)
            for subject in subjects.values():
                self.assertIsNone(subject["failure"], name)
                self.assertTrue(subject["samples"], name)
        # The process holds more than its blocks.
        for name in ("steady-100k", "spike", "phase"):
            for subject in cases["live", name].values():
                self.assertTrue(all(value > 1 for key, value in subject["median"].items() if key.endswith(": rss")), name)
        self.assertGreater(cases["freeall", "16..1,039 B, 1 thread, no call"]["glibc"]["median"]["peak MiB"], 200)


if __name__ == "__main__":
    unittest.main()
