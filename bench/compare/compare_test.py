# SPDX-License-Identifier: Apache-2.0
"""The comparison's command line, its proof that a run used the allocator it names, and its output."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.compare import instructions
from bench.compare import programs
from bench.lib import allocators
from bench.lib.allocators import Allocator

BENCH = allocators.BENCH


def run(script, *args, **env):
    return subprocess.run(
        [sys.executable, "-B", os.path.join(BENCH, "compare", script), *args],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=240, check=False,
    )


class CommandLineTest(unittest.TestCase):
    def test_mistakes(self):
        cases = [
            ("compare.py", "--nope"),
            ("compare.py", "positional"),
            ("compare.py", "--qui"),
            ("compare.py", "--runs", "0"),
            ("compare.py", "--runs", "2x"),
            ("compare.py", "--runs"),
            ("compare.py", "--workload", "nope"),
            ("compare.py", "--workload", ""),
            ("compare.py", "--allocator", "nope"),
            ("compare.py", "--allocator", "glibc,glibc"),
            ("compare.py", "--allocator", "mine=/no/such/library.so"),
            ("compare.py", "--allocator", "mine="),
            ("compare.py", "--allocator", "=x.so"),
            ("compare.py", "--json", "/no/such/folder/file.json"),
            ("instructions.py", "--size", "0"),
            ("instructions.py", "--allocator", "noop"),
            ("real_programs.py", "--program", "nope"),
            ("real_programs.py", "--repo", "/no/such/folder"),
            ("real_programs.py", "--runs", "-1"),
        ]
        for case in cases:
            done = run(*case)
            self.assertEqual(done.returncode, 2, case)
            self.assertIn("usage:", done.stderr, case)
            self.assertEqual(done.stdout, "", case)

    def test_help(self):
        for script in ("compare.py", "instructions.py", "real_programs.py"):
            done = run(script, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), script)
            self.assertIn("--allocator", done.stdout)


class IdentityTest(unittest.TestCase):
    """Positive controls: each kind of wrong allocator must be noticed."""

    def refused(self, spec, *words):
        done = run("compare.py", "--quick", "--runs", "1", "--workload", "large", "--allocator", spec)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout, "")
        for word in ("a run did not use the allocator it names", *words):
            self.assertIn(word, done.stderr)

    def test_another_allocator_under_the_name(self):
        self.refused("glibc,mimalloc=" + os.path.join(BENCH, "lib", "libnoop.so"), "mimalloc", "noop")

    def test_another_profile_under_the_name(self):
        self.refused("glibc,hakmem-fast=" + os.path.join(BENCH, "lib", "libhakmem_standard.so"), "standard")

    def test_another_allocator_under_the_name_in_real_programs(self):
        spec = "glibc,mimalloc=" + os.path.join(BENCH, "lib", "libnoop.so")
        done = run("real_programs.py", "--quick", "--program", "python3", "--allocator", spec)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("a run did not use the allocator it names", done.stderr)

    def test_what_takes_part_when_named(self):
        unasked, _ = allocators.discover()
        self.assertNotIn("hakmem-hardened", [a.name for a in unasked])
        picked, _ = allocators.select("glibc,hakmem-hardened,hakmem-observe", BENCH)
        self.assertEqual([a.name for a in picked], ["glibc", "hakmem-hardened", "hakmem-observe"])
        done = run("compare.py", "--quick", "--runs", "1", "--workload", "large", "--allocator", "glibc,hakmem-hardened")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("hakmem-hardened", done.stdout)
        self.refused("glibc,hakmem-observe=" + os.path.join(BENCH, "lib", "libhakmem_hardened.so"), "hardened")

    def test_library_without_malloc(self):
        math = allocators.find_library(("libm.so.6",))
        self.assertIsNotNone(math)
        self.refused("glibc,mine=" + math, "malloc came from")

    def test_file_that_is_no_library(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(b"no library")
            file.flush()
            self.refused("glibc,mine=" + file.name, "mine")

    def test_check_identity(self):
        good = [
            (Allocator("glibc", None), "glibc 2.36 (/lib/x86_64-linux-gnu/libc.so.6)"),
            (Allocator("hakmem-fast", "/x/a.so"), "hakmem 0.1.0 fast header=none (/x/a.so)"),
            (Allocator("mine", "/x/a.so"), "unknown unknown-version (/x/a.so)"),
            (Allocator("mimalloc3", "/x/a.so"), "mimalloc 3.0.4 (/x/a.so)"),
        ]
        bad = [
            (Allocator("glibc", None), "hakmem 0.1.0 fast header=none (/x/a.so)"),
            (Allocator("hakmem-fast", "/x/a.so"), "hakmem 0.1.0 standard header=none (/x/a.so)"),
            (Allocator("hakmem-fast", "/x/a.so"), "hakmem 0.1.0 fast header=none (/x/b.so)"),
            (Allocator("mine", "/x/a.so"), "glibc 2.36 (/lib/x86_64-linux-gnu/libc.so.6)"),
            (Allocator("jemalloc", "/x/a.so"), "mimalloc 2.0.9 (/x/a.so)"),
            (Allocator("jemalloc", "/x/a.so"), ""),
        ]
        for allocator, identity in good:
            self.assertIsNone(allocator.check_identity(identity), identity)
        for allocator, identity in bad:
            self.assertIsNotNone(allocator.check_identity(identity), identity)

    def test_real_program_that_uses_another_malloc(self):
        libc = allocators.find_library(("libc.so.6",))
        noop = os.path.join(BENCH, "lib", "libnoop.so")
        program = programs.Program("python3", "", [sys.executable, "-I", "-c", "1"], lambda _: None)
        with tempfile.TemporaryDirectory() as directory:
            self.assertIsNone(programs.check_binding(program, Allocator("glibc", libc), libc, directory))
            self.assertIsNotNone(programs.check_binding(program, Allocator("mine", noop + ".absent"), libc, directory))


class OutputTest(unittest.TestCase):
    def test_table_and_json(self):
        with tempfile.TemporaryDirectory() as directory:
            done = run("compare.py", "--quick", "--runs", "2", "--workload", "small-400,exchange", "--allocator",
                       "glibc,noop,hakmem-fast,hakmem-standard", "--json", "out.json",
                       BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
        for word in ("Machine:", "Kernel:", "Harness:", "glibc *", "hakmem-fast", "small-400", "exchange", "floor+ns"):
            self.assertIn(word, done.stdout)
        self.assertNotIn("\r", done.stderr)
        self.assertEqual(set(document["workloads"]), {"small-400", "exchange"})
        row = document["workloads"]["exchange"]
        self.assertEqual(row["summary"]["best_peer"], "glibc")
        self.assertEqual(row["summary"]["allocators"]["glibc"]["ratio"], 1.0)
        self.assertEqual(row["summary"]["allocators"]["noop"]["floor_ns"], 0.0)
        self.assertEqual(len(row["samples"]["hakmem-fast"]["ops_per_second"]), 2)
        self.assertTrue(all(kib > 500 for kib in row["samples"]["hakmem-fast"]["peak_rss_kib"]))


class CallgrindTest(unittest.TestCase):
    def test_self_cost_leaves_callees_out(self):
        with tempfile.NamedTemporaryFile("w", suffix=".out") as file:
            file.write("events: Ir\n\nob=/a/bench\nfl=x.c\nfn=main\n10 5\n")
            file.write("cob=/a/lib.so\ncfn=malloc\ncalls=3 7\n10 300\n11 2\n\n")
            file.write("ob=/a/lib.so\nfn=malloc\n7 300\n")
            file.flush()
            self.assertEqual(instructions.self_cost(file.name), {"/a/bench": 7, "/a/lib.so": 300})


if __name__ == "__main__":
    unittest.main()
