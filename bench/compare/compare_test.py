# SPDX-License-Identifier: Apache-2.0
"""The comparison's command line, its proof that a run used the allocator it names, and its output."""

import html.parser
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.compare import compare
from bench.compare import compare_table
from bench.compare import instructions
from bench.compare import page
from bench.compare import postgres
from bench.compare import programs
from bench.compare import rss
from bench.compare import rss_plot
from bench.lib import allocators
from bench.lib.allocators import Allocator
from bench.workloads import table

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
            ("compare.py", "--html", "/no/such/folder/file.html"),
            ("compare.py", "--html", "x.html", "--latency", "/no/such/file.json"),
            ("compare.py", "--latency", "x.json"),
            ("compare.py", "--group", "nope"),
            ("compare.py", "--group", ""),
            ("compare.py", "--group", "small", "--workload", "large"),
            ("compare.py", "--allocator", "nope"),
            ("compare.py", "--allocator", "glibc,glibc"),
            ("compare.py", "--allocator", "mine=/no/such/library.so"),
            ("compare.py", "--allocator", "mine="),
            ("compare.py", "--allocator", "=x.so"),
            ("compare.py", "--json", "/no/such/folder/file.json"),
            ("compare.py", "--fetch-peers=nope"),
            ("compare.py", "--fetch-peers=http://mirror [trusted=yes]"),
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

    def test_peers_cannot_be_fetched(self):
        with tempfile.TemporaryDirectory() as cache:
            done = run("compare.py", "--fetch-peers=http://127.0.0.1:1/debian", XDG_CACHE_HOME=cache)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"^compare: --fetch-peers: cannot read http://127\.0\.0\.1:1/debian: [^\n]+\n$")

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


class RealProgramsTest(unittest.TestCase):
    def test_time_memory_and_faults(self):
        with tempfile.TemporaryDirectory() as directory:
            done = run("real_programs.py", "--quick", "--program", "python3", "--allocator", "glibc,hakmem-fast",
                       "--json", "out.json", BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
        for name in ("glibc", "hakmem-fast"):
            sample = document["samples"]["python3"][name]
            # The interpreter's pages are touched one by one; 4 KiB of the peak is a fault, or several are one.
            self.assertGreater(sample["faults"][0], 100)
            self.assertGreater(sample["peak_kib"][0], 4096)
            self.assertGreater(sample["cpu_seconds"][0], 0)
        self.assertEqual(document["summary"]["python3"]["glibc"]["cpu_ratio"], 1.0)
        # What a server is asked while it runs.
        seconds, peak, faults = programs._usage(os.getpid())
        self.assertGreaterEqual(seconds, 0)
        self.assertGreater(peak, 4096)
        self.assertGreater(faults, 100)
        for word in ("CPU s", "faults", "peak MiB"):
            self.assertIn(word, done.stdout)


    def test_programs_that_are_not_installed(self):
        with tempfile.TemporaryDirectory() as empty:
            done = run("real_programs.py", "--quick", "--program", "python3,ruby,ffmpeg", "--allocator", "glibc", PATH=empty)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("  missing: ruby: ruby is not installed\n", "  missing: ffmpeg: ffmpeg is not installed\n",
                     "\npython3 "):
            self.assertIn(word, done.stdout)

    def test_a_program_runs_or_is_named_as_missing(self):
        wanted = ["redis", "ruby", "postgres", "ffmpeg"]
        with tempfile.TemporaryDirectory() as directory:
            done = run("real_programs.py", "--quick", "--program", ",".join(wanted), "--allocator", "glibc,hakmem-fast",
                       "--json", "out.json", BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
        for name in wanted:
            missing = [line for line in document["missing"] if line.startswith(name + ": ")]
            if missing:
                self.assertRegex(missing[0], "is not installed$|no name space for another user$")
                self.assertIn(f"  missing: {missing[0]}\n", done.stdout)
                continue
            for allocator in ("glibc", "hakmem-fast"):
                sample = document["samples"][name][allocator]
                self.assertGreater(sample["faults"][0], 100, f"{name}: {allocator}")
                self.assertGreater(sample["cpu_seconds"][0], 0, f"{name}: {allocator}")

    def test_a_server_that_cannot_start(self):
        with tempfile.TemporaryDirectory() as directory:
            script = os.path.join(directory, "postgres")
            with open(script, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\necho 'FATAL: no memory' >&2\nexit 1\n")
            os.chmod(script, 0o755)
            measure = os.path.join(BENCH, "compare", "measure")
            server = postgres.Server(measure, [], directory, directory, Allocator("glibc", None))
            try:
                with self.assertRaisesRegex(RuntimeError, "ended at once: FATAL: no memory"):
                    server.wait_until_serving()
            finally:
                server.stop()
            self.assertIsNotNone(server.process.poll())


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


class PageTest(unittest.TestCase):
    def parse(self, text):
        """Every element is closed, and nothing is fetched."""
        open_elements = []

        class Parser(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes):
                if tag not in ("meta",):
                    open_elements.append(tag)
                assert not {"src", "href"} & {name for name, _ in attributes}, tag
                assert tag not in ("script", "link", "img"), tag

            def handle_startendtag(self, tag, attributes):
                pass

            def handle_endtag(self, tag):
                assert open_elements.pop() == tag, tag

        parser = Parser()
        parser.feed(text)
        parser.close()
        self.assertEqual(open_elements, [])

    def test_page_of_a_run_and_of_latency(self):
        latency = {"format": 1, "allocators": {"glibc": "glibc 2", "other<1>": "x"}, "points": ["p50", "max"], "summary": {
            "none": {"clock": {}, "calloc": {"glibc": {"p50": 20, "max": 90}, "other<1>": {"p50": 10, "max": 0}}},
            "fork": {"calloc": {"glibc": {"p50": 30, "max": 100}}}}}
        with tempfile.TemporaryDirectory() as directory:
            with open(os.path.join(directory, "latency.json"), "w", encoding="utf-8") as file:
                json.dump(latency, file)
            done = run("compare.py", "--quick", "--runs", "1", "--workload", "many-1,many-4,large", "--allocator",
                       "glibc,noop,hakmem-fast", "--html", "page.html", "--latency", "latency.json",
                       BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "page.html"), encoding="utf-8") as file:
                text = file.read()
        self.parse(text)
        for word in ("Throughput over the number of threads", "calloc beside fork", "Geometric means", "hakmem-fast",
                     "other&lt;1&gt;", "prefers-color-scheme: dark", "Left out: small: ", "too short for claims"):
            self.assertIn(word, text)
        # Throughput over threads, the two of latency, and memory over time of three workloads.
        self.assertEqual(text.count("<svg"), 6)
        self.assertEqual(text.count("RSS, MiB</text>"), 3)
        self.assertEqual(text.count("time since the start, "), 3)
        self.assertEqual(text.count('<polyline class="thin'), 6)  # of glibc and hakmem-fast each
        self.assertNotIn("noop", text)

    def test_memory_over_time(self):
        bench = os.path.join(BENCH, "workloads", "random_mixed")
        curve = rss.sample(bench, ["200000", "50000", "--workload", "growth-100k"], Allocator("glibc", None))
        self.assertEqual(curve.seconds, sorted(curve.seconds))
        self.assertEqual(len(curve.seconds), len(curve.kib))
        self.assertLessEqual(len(curve.kib), rss.MOST_POINTS)
        self.assertGreater(max(curve.kib), 20000)  # 50,000 blocks of 528 bytes on average
        self.assertLess(max(curve.kib), 60000)
        with self.assertRaisesRegex(RuntimeError, "exit status 2"):
            rss.sample(bench, ["--nope"], Allocator("glibc", None))
        self.assertEqual(rss.thin_out([(0, 5), (1, 9), (2, 1), (3, 0), (4, 2)]), [(1, 9), (2, 1), (4, 2)])

    def test_axes_begin_at_0_and_hold_everything(self):
        for most in (0.004, 0.9, 1, 7, 10, 11, 99.5, 640, 123456):
            found = rss_plot.ticks(most)
            self.assertEqual(found[0], 0)
            self.assertGreaterEqual(found[-1], most * (1 - 1e-9))
            self.assertLessEqual(len(found), rss_plot.MOST_TICKS)
            self.assertGreaterEqual(len(found), 2)
        curves = {"a<b": {"seconds": [0.1, 0.2], "kib": [1024, 2048]}, "empty": {"seconds": [], "kib": []}}
        drawn = rss_plot.svg("a title & more", curves, {"a<b": 0, "empty": 1})
        self.parse(drawn)
        self.assertIn("a&lt;b: peak 2.0 MiB, last 2.0 MiB, 200 ms", drawn)
        self.assertEqual(drawn.count("<polyline"), 1)
        self.assertEqual(rss_plot.svg("t", {}, {}), "")

    def test_cells(self):
        self.assertIn("failed", page._ratio_cell({"failure": "it crashed"}, False))
        self.assertIn("\u25bc 0.900", page._ratio_cell({"ratio": 0.9, "ratio_interval": [0.8, 0.99]}, False))
        self.assertNotIn("\u25bc", page._ratio_cell({"ratio": 0.9, "ratio_interval": [0.8, 1.01]}, False))
        self.assertEqual([page.short(n) for n in (400, 20000, 4000000, 64, 1024, 1 << 20)],
                         ["400", "20k", "4M", "64", "1Ki", "1Mi"])

    def test_bad_latency_files(self):
        with tempfile.TemporaryDirectory() as directory:
            whole = ('{"format": 1, "allocators": {"glibc": "x"}, "points": ["p50"], '
                     '"summary": {"none": {"calloc": {"glibc": {"p50": VALUE}}}}}')
            wrong = [whole.replace("VALUE", value) for value in ('"x"', "-1", "Infinity", "[1]")]
            for name, text in zip("abcdefghij", ["no json", "[]", '{"format": 2}', '{"format": 1}', whole[:-9], "[" * 100000,
                                                 *wrong]):
                with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                    file.write(text)
                done = run("compare.py", "--html", "x.html", "--latency", name, BUILD_WORKING_DIRECTORY=directory)
                self.assertEqual((done.returncode, done.stdout), (2, ""), name)
                self.assertIn("is no result of //bench:latency", done.stderr)


class GroupTest(unittest.TestCase):
    def test_a_group_runs(self):
        with tempfile.TemporaryDirectory() as directory:
            done = run("compare.py", "--quick", "--runs", "1", "--group", "programs", "--allocator",
                       "glibc,noop,hakmem-fast", "--json", "out.json", BUILD_WORKING_DIRECTORY=directory)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
        wanted = {workload.name for workload in table.WORKLOADS if workload.group == "programs"}
        self.assertEqual(set(document["workloads"]), wanted)
        self.assertIn("cpp_containers", wanted)
        # The floor hands out blocks that are in use, which these workloads would report.
        self.assertEqual(set(document["workloads"]["json_tree"]["samples"]), {"glibc", "hakmem-fast"})
        self.assertIn("left out: large: large, ", done.stdout)
        self.assertEqual(set(document["geometric_means"]), {"programs", "all"})
        self.assertEqual(document["geometric_means"]["all"]["glibc"], 1.0)

    def test_worst_row_first_and_means(self):
        def cell(ratio):
            return {"runs": 1, "ops_per_second": 1e6, "interval": [1e6, 1e6], "coverage": 0.0, "ratio": ratio,
                    "ratio_interval": [ratio, ratio], "floor_ns": None, "peak_rss_kib": 1024}

        rows = [table.Workload(name, name, 1, 1, 1, frozenset(), True, group)
                for name, group in (("good", "small"), ("bad", "small"), ("middle", "large"))]
        ratios = {"good": 2.0, "bad": 0.5, "middle": 0.8}
        summary = {row.name: {"best_peer": "glibc", "floor": True, "allocators": {
            "hakmem-fast": cell(ratios[row.name]), "noop": cell(0.1), "glibc": cell(1.0)}} for row in rows}
        out = io.StringIO()
        compare_table.write(out, rows, summary)
        text = out.getvalue()
        self.assertLess(text.index("\nbad "), text.index("\nmiddle "))
        self.assertLess(text.index("\nmiddle "), text.index("\ngood "))
        means = compare_table.means(rows, summary)
        self.assertAlmostEqual(means["small"]["hakmem-fast"], 1.0)
        self.assertAlmostEqual(means["all"]["hakmem-fast"], 0.8 ** (1 / 3))
        self.assertNotIn("noop", means["all"])
        self.assertRegex(text, r"hakmem-fast +1\.000 +0\.800 +0\.928")
        summary["good"]["allocators"]["hakmem-fast"] = {"failure": "it crashed"}
        self.assertEqual(compare_table.worst_first(rows, summary)[0].name, "good")

    def test_the_default_says_what_it_leaves_out(self):
        chosen = [workload for workload in table.WORKLOADS if workload.default]
        out = compare.left_out(chosen)
        self.assertEqual(set(out), set(table.GROUPS))
        self.assertEqual(sum(map(len, out.values())) + len(chosen), len(table.WORKLOADS))


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
