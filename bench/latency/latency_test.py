# SPDX-License-Identifier: Apache-2.0
"""latency: its command line, that it sees a call that is slow, and that a wrong allocator fails."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.latency import latency
from bench.lib import allocators
from bench.lib.allocators import Allocator

BENCH = allocators.BENCH
PLANTED = os.path.join(BENCH, "lib", "libplanted.so")


def run(*args, **env):
    return subprocess.run([sys.executable, "-B", os.path.join(BENCH, "latency", "latency.py"), *args],
                          env={**os.environ, **env}, capture_output=True, text=True, check=False)


def worker(*args, preload=None, **env):
    environment = {**os.environ, **env, **({"LD_PRELOAD": preload} if preload else {})}
    return subprocess.run([os.path.join(BENCH, "latency", "latency_worker"), *args], env=environment,
                          capture_output=True, text=True, check=False)


class CommandLineTest(unittest.TestCase):
    def test_mistakes(self):
        for case in (["--nope"], ["positional"], ["--qui"], ["--runs", "0"], ["--calls", "99"], ["--calls", "x"],
                     ["--beside", "nope"], ["--kind", ""], ["--free-mib", "0"], ["--allocator", "noop"],
                     ["--allocator", "mine=/no/such.so"], ["--json", "/no/such/folder/file.json"]):
            done = run(*case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage:", done.stderr, case)

    def test_mistakes_of_the_worker(self):
        for case in (["--nope"], ["1"], ["--calls", "0"], ["--calls"], ["--beside", "nope"], ["--free-mib", "-1"],
                     ["--seed", "x"]):
            done = worker(*case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage: latency_worker", done.stderr, case)

    def test_help(self):
        self.assertIn("--beside", run("--help").stdout)
        self.assertIn("--beside", worker("--help").stdout)


class WorkerTest(unittest.TestCase):
    def points(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        values = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
        return values, {kind: [int(word) for word in values[kind].split()] for kind in latency.KINDS}

    def test_every_kind_beside_everything(self):
        for beside in latency.BESIDE:
            values, points = self.points(worker("--calls", "2000", "--beside", beside, "--free-mib", "16"))
            self.assertRegex(values["Beside"], rf"^{beside}, [1-9][0-9]* times$")
            for kind, (calls, *rest) in points.items():
                self.assertGreaterEqual(calls, 200 if kind.endswith("large") else 2000, kind)
                self.assertEqual(rest, sorted(rest), kind)
                self.assertGreater(rest[-1], 0, kind)

    def test_a_planted_delay_is_seen(self):
        # Every 997th malloc takes 2 ms: beyond the 99.9th percentile of 20,000 calls, far from their median. The plant
        # counts the mallocs of all kinds, so p99.9 may lie on either side.
        _, points = self.points(worker("--calls", "20000", preload=PLANTED, HAKMEM_BENCH_PLANT="slow"))
        p50, _, _, p9999, longest = points["malloc-small"][1:]
        self.assertLess(p50, 2_000_000)
        self.assertGreaterEqual(p9999, 1_900_000)  # a bucket's lower end
        self.assertGreaterEqual(longest, 2_000_000)

    def test_a_wrong_allocator_fails(self):
        self.points(worker("--calls", "20000", preload=PLANTED))
        for plant, word in (("twice", "lost its contents"), ("spoiled", "lost its contents"), ("dirty", "not zero"),
                            ("unaligned", "not aligned"), ("lost", "lost its contents")):
            done = worker("--calls", "20000", preload=PLANTED, HAKMEM_BENCH_PLANT=plant)
            self.assertEqual(done.returncode, 1, plant)
            self.assertIn(word, done.stderr, plant)

    def test_an_allocator_that_cannot_trim(self):
        done = worker("--calls", "1000", "--beside", "trim", preload=PLANTED)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Skipped = ", done.stdout)


class TableTest(unittest.TestCase):
    def test_medians_and_ratios(self):
        chosen = [Allocator("hakmem-fast", "/a.so"), Allocator("glibc", None), Allocator("jemalloc", "/b.so")]
        cells = {("none", a.name): latency.Cell() for a in chosen}
        for name, maxima in (("hakmem-fast", (10, 90, 20)), ("glibc", (40, 40, 41)), ("jemalloc", (80, 79, 99))):
            for kind in ("clock", "calloc"):
                cells["none", name].points[kind] = [[1, 2, 3, 4, most] for most in maxima]
        rows = latency.summarise(cells, ["none"], chosen, ["clock", "calloc"])["none"]
        self.assertEqual({name: row["max"] for name, row in rows["calloc"].items()},
                         {"hakmem-fast": 20, "glibc": 40, "jemalloc": 80})
        self.assertEqual({name: row["ratio"] for name, row in rows["calloc"].items()},
                         {"hakmem-fast": 0.5, "glibc": 1.0, "jemalloc": 2.0})
        self.assertIsNone(rows["clock"]["glibc"]["ratio"])

    def test_free_is_bounded_by_memory(self):
        self.assertEqual(latency.free_mib(1), 1)
        self.assertLess(latency.free_mib(1 << 20), 1 << 20)

    def test_output_and_json(self):
        with tempfile.TemporaryDirectory() as directory:
            done = run("--runs", "2", "--calls", "1000", "--beside", "none,trim", "--allocator",
                       f"glibc,hakmem-fast,hakmem-standard,plain={PLANTED}", "--json", "out.json",
                       BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
        for word in ("Machine:", "hakmem-fast", "free-remote", "p99.99", "max/best", "no call that trims"):
            self.assertIn(word, done.stdout)
        self.assertEqual(set(document["summary"]), {"none", "trim"})
        self.assertEqual(len(document["samples"]["none"]["hakmem-fast"]["runs"]["calloc"]), 2)
        self.assertIsNotNone(document["samples"]["trim"]["plain"]["skipped"])

    def test_a_failure_is_named(self):
        done = run("--quick", "--runs", "1", "--calls", "20000", "--beside", "none", "--allocator",
                   f"glibc,mine={PLANTED}", HAKMEM_BENCH_PLANT="twice")
        self.assertEqual(done.returncode, 1)
        self.assertIn("latency: mine beside none failed:", done.stderr)
        self.assertIn("glibc", done.stdout)

    def test_another_allocator_under_the_name(self):
        done = run("--quick", "--allocator", f"glibc,mimalloc={PLANTED}")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("did not use the allocator it names", done.stderr)


if __name__ == "__main__":
    unittest.main()
