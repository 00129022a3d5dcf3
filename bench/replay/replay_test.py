# SPDX-License-Identifier: Apache-2.0
"""record and replay: a program whose calls are known, traces that cannot be used, wrong allocators, the traces that are
checked in."""

import glob
import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.lib import allocators
from bench.replay import advise
from bench.replay import record
from bench.replay import replay
from bench.replay.record import CALLOC, ALIGNED, END, FREE, MALLOC, REALLOC, THREAD, TIME, Raw, number

FOLDER = os.path.join(allocators.BENCH, "replay")
PLANTED = os.path.join(allocators.BENCH, "lib", "libplanted.so")
HEAD = b"HAKTRACE\x01\x00"


def run(script, *args, **env):
    return subprocess.run([sys.executable, "-B", os.path.join(FOLDER, script), *args], env={**os.environ, **env},
                          capture_output=True, text=True, check=False)


def worker(*args, **env):
    return subprocess.run([os.path.join(FOLDER, "replay_worker"), *args], env={**os.environ, **env},
                          capture_output=True, text=True, check=False)


def trace(*records, count=None):
    return HEAD + b"".join(records) + bytes([END]) + number(len(records) if count is None else count)


def one(op, *numbers):
    return bytes([op]) + b"".join(map(number, numbers))


def read(data):
    """The records of a trace, each with its numbers."""
    numbers = {END: 1, THREAD: 1, TIME: 1, MALLOC: 1, CALLOC: 1, ALIGNED: 2, REALLOC: 2, FREE: 1}
    at, records = len(HEAD), []
    while at < len(data):
        found = [data[at]]
        at += 1
        for _ in range(numbers[found[0]]):
            value = shift = 0
            while True:
                value |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
                if data[at - 1] < 0x80:
                    break
            found.append(value)
        records.append(tuple(found))
    return records


class WithFolder(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = self.temporary.name

    def file(self, data, name="a.trace"):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            out.write(data)
        return path


class CommandLineTest(unittest.TestCase):
    def test_mistakes(self):
        cases = [("record.py",), ("record.py", "--"), ("record.py", "--nope", "--", "true"),
                 ("record.py", "--limit-kib", "0", "--", "true"), ("record.py", "--calls", "x", "--", "true"),
                 ("record.py", "--process", "0", "--", "true"), ("record.py", "--output", "/no/such/x", "--", "true"),
                 ("replay.py",), ("replay.py", "a", "b"), ("replay.py", "--runs", "0", "a"),
                 ("replay.py", "--allocator", "nope", "a"), ("replay.py", "--json", "/no/such/x.json", "a")]
        for case in cases:
            done = run(*case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage:", done.stderr, case)
        for case in ((), ("--nope", "a"), ("a", "b"), ("--rounds", "0", "a"), ("--rounds",), ("--rest-ms", "x", "a")):
            done = worker(*case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage: replay_worker", done.stderr, case)

    def test_help(self):
        for script in ("record.py", "replay.py"):
            self.assertEqual(run(script, "--help").returncode, 0)

    def test_a_program_that_does_not_start(self):
        done = run("record.py", "--output", os.devnull, "--", "/no/such/program")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot start", done.stderr)


class BadTraceTest(WithFolder):
    def refused(self, data, words):
        path = self.file(data)
        for done in (worker(path), run("replay.py", path)):
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(f"{path}: ", done.stderr)
            self.assertIn(words, done.stderr)

    def test_each(self):
        good = trace(one(MALLOC, 100), one(FREE, 0))
        self.assertEqual(worker(self.file(good)).returncode, 0)
        for data, words in (
                (b"", "not a trace"), (b"HAKTRACE\x01", "not a trace"), (b"x" + good[1:], "not a trace"),
                (good[:8] + b"\x02" + good[9:], "another version"), (HEAD, "cut"), (good[:-2], "cut"),
                (good[:-1], "cut in the middle"), (good + b"\0", "more behind"),
                (trace(one(MALLOC, 1), count=2), "records are missing"), (trace(), "no calls"),
                (trace(one(FREE, 0)), "never allocated"), (trace(one(MALLOC, 1), one(FREE, 1)), "never allocated"),
                (trace(one(MALLOC, 1), one(FREE, 0), one(FREE, 0)), "freed before"),
                (trace(one(MALLOC, 1), one(REALLOC, 0, 9), one(FREE, 1)), "freed before"),
                (trace(one(MALLOC, 1 << 40)), "1 TiB"), (trace(one(MALLOC, (1 << 40) - 1)), "half of this machine"),
                (trace(bytes([MALLOC]) + b"\xff" * 9 + b"\1"), "63 bits"), (trace(one(ALIGNED, 31, 8)), "alignment"),
                (trace(one(THREAD, 2), one(MALLOC, 1)), "out of order"), (trace(one(TIME, 1 << 32)), "an hour"),
                (trace(one(8, 1)), "unknown kind"), (trace(one(MALLOC, 1), b"\xff"), "unknown kind")):
            self.refused(data, words)

    def test_a_file_that_is_not_there(self):
        for path in (os.path.join(self.folder, "nothing"), self.folder):
            done = run("replay.py", path)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1), done.stderr)


class RecordTest(WithFolder):
    def record(self, *options):
        path = os.path.join(self.folder, "out.trace")
        done = run("record.py", "--output", path, *options, "--", os.path.join(FOLDER, "record_target"))
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, "rb") as file:
            return path, file.read(), done.stdout

    def test_calls_that_are_known(self):
        path, data, _ = self.record()
        self.assertEqual(data[:10], HEAD)
        records = read(data)
        self.assertEqual(records[-1], (END, len(records) - 1))
        sizes = [record[1] for record in records if record[0] == MALLOC]
        for size in [*range(1000, 1300), 779, 123457]:
            self.assertEqual(sizes.count(size), 1, size)
        self.assertNotIn(98765, sizes)  # the child's
        self.assertEqual([record[2] for record in records if record[0] == REALLOC], list(range(5000, 5300)))
        self.assertIn((CALLOC, 77), records)
        self.assertIn((ALIGNED, 8, 777), records)
        self.assertIn((ALIGNED, 12, 778), records)
        # The blocks of the second thread are resized by the first. 300 and more are freed.
        self.assertIn((THREAD, 1), records)
        self.assertGreaterEqual(sum(record[0] == FREE for record in records), 304)
        # It is replayed with both threads.
        done = worker("--rounds", "3", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Threads = 2", done.stdout)

    def test_options_of_the_program_are_its_own(self):
        for dashes in ((), ("--",)):
            path = os.path.join(self.folder, "out.trace")
            done = run("record.py", "--output", path, *dashes, sys.executable, "-I", "-c", "print(list('--calls'))")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("['-', '-', 'c'", done.stdout)
            self.assertEqual(worker("--check", path).returncode, 0)

    def test_cut(self):
        path, data, said = self.record("--limit-kib", "1")
        self.assertLessEqual(len(data), 1024)
        self.assertIn("cut", said)
        self.assertEqual(worker(path).returncode, 0)
        path, data, said = self.record("--calls", "50")
        self.assertIn("cut", said)
        self.assertLessEqual(sum(record[0] not in (END, THREAD, TIME) for record in read(data)), 50)

    def test_packer(self):
        packer = record.Packer(1000)
        for op, thread, address, size in (
                (record.RAW_FREE, 1, 9, 0),  # a block from before the recording
                (record.RAW_MALLOC, 1, 16, 100), (record.RAW_REALLOC_BEGIN, 2, 16, 0), (record.RAW_MALLOC, 1, 16, 7),
                (record.RAW_REALLOC_END, 2, 32, 200), (record.RAW_REALLOC_BEGIN, 1, 32, 0),
                (record.RAW_REALLOC_END, 1, 0, 1 << 60),  # it failed
                (record.RAW_FREE, 1, 32, 0), (record.RAW_FREE, 1, 16, 0)):
            packer.add(Raw(address, size, 5_000_000_000, thread, 0, op, 0))
        self.assertEqual(read(packer.finish()), [
            (MALLOC, 100), (MALLOC, 7), (THREAD, 1), (REALLOC, 1, 200), (THREAD, 0), (FREE, 0), (FREE, 1), (END, 7)])

    def test_times(self):
        packer = record.Packer(1000)
        for ns in (10**9, 10**9, 10**9 + 4_000_000, 10**9 + 3_000_000):
            packer.add(Raw(16 + len(packer.live), 1, ns, 1, 0, record.RAW_MALLOC, 0))
        self.assertEqual(read(packer.finish()), [(MALLOC, 1), (MALLOC, 1), (TIME, 4000), (MALLOC, 1), (MALLOC, 1), (END, 5)])


class AdviseTest(WithFolder):
    def test_mistakes(self):
        for case in ((), ("--",), ("a", "--", "true"), ("--runs", "0", "a"), ("a", "b"), ("--nope", "a")):
            done = run("advise.py", *case)
            self.assertEqual((done.returncode, done.stdout), (2, ""), case)
            self.assertIn("usage:", done.stderr, case)
        done = run("advise.py", self.file(trace()))
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1))

    def test_a_program_with_every_preset(self):
        done = run("advise.py", "--runs", "1", "--rest-ms", "100", "--allocator", "glibc,hakmem-fast,hakmem-standard",
                   "--json", "out.json", "--", os.path.join(FOLDER, "record_target"), BUILD_WORKING_DIRECTORY=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = {"glibc", "hakmem-fast", *(f"hakmem-standard-{preset}" for preset in advise.PRESETS)}
        with open(os.path.join(self.folder, "out.json"), encoding="utf-8") as file:
            self.assertEqual(set(json.load(file)["summary"]), names)
        for column in ("time", "peak", "trough", "all three"):
            self.assertRegex(done.stdout, f"\nBest in {column}: (glibc|hakmem)")

    def test_presets_reach_the_process(self):
        allocator, = [a for a in advise.with_presets([allocators.Allocator("hakmem-standard", "/x.so")])
                      if a.name.endswith("lean")]
        env = allocator.environment({"HAKMEM_PROFILE": "speed"})
        self.assertEqual((env["HAKMEM_PROFILE"], env["LD_PRELOAD"]), ("lean", "/x.so"))

    def test_which_is_best(self):
        def cell(seconds, peak, end):
            return replay.Cell([seconds], [peak], [end])

        rows = advise.summarise({"a": cell(1.0, 4000, 0), "b": cell(1.01, 2000, 400), "c": cell(2.0, 1000, 4),
                                 "d": replay.Cell(failure="it crashed")})
        self.assertEqual(advise.best_of(rows, "time"), ["a", "b"])
        self.assertEqual(advise.best_of(rows, "peak"), ["c"])
        self.assertEqual(advise.best_of(rows, "trough"), ["a"])
        self.assertAlmostEqual(rows["a"]["all"], 4 ** (1 / 3))
        self.assertAlmostEqual(rows["c"]["all"], 2 ** (1 / 3))
        self.assertEqual(advise.best_of(rows, "all"), ["c"])
        self.assertNotIn("d", rows)


class ReplayTest(WithFolder):
    def test_a_wrong_allocator_fails(self):
        many = [one(MALLOC, 100) for _ in range(3000)]
        grown = [one(MALLOC, 100)] + [one(REALLOC, 0, 100 + i) for i in range(3000)]
        path, growing = self.file(trace(*many)), self.file(trace(*grown), "b.trace")
        cleared = self.file(trace(*[one(CALLOC, 100) for _ in range(3000)]), "c.trace")
        aligned = self.file(trace(*[one(ALIGNED, 8, 100) for _ in range(3000)]), "d.trace")
        for name, plant in ((path, "none"), (path, "twice"), (path, "spoiled"), (growing, "lost"), (cleared, "dirty"),
                            (aligned, "unaligned")):
            done = worker(name, LD_PRELOAD=PLANTED, HAKMEM_BENCH_PLANT=plant)
            self.assertEqual(done.returncode, 0 if plant == "none" else 1, plant)
            self.assertEqual("the allocator is wrong" in done.stderr, plant != "none", plant)

    def test_threads_wait_for_each_other(self):
        # Thread 1 frees what thread 0 allocates, one by one, and the other way round.
        records = []
        for _ in range(20000):
            records += [one(THREAD, 0), one(MALLOC, 50), one(THREAD, 1), one(FREE, 0), one(MALLOC, 60), one(THREAD, 0),
                        one(FREE, 0)]
        done = worker(self.file(trace(*records)))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Operations = 80000\n", done.stdout)

    def test_table_and_json(self):
        path = self.file(trace(*[one(MALLOC, 100 + i) for i in range(1000)]))
        done = run("replay.py", path, "--runs", "2", "--rounds", "3", "--allocator", "glibc,hakmem-fast,hakmem-standard",
                   "--json", "out.json", BUILD_WORKING_DIRECTORY=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("Trace: a.trace, 1000 calls of 1 threads", "hakmem-fast", "peak MiB", "2 runs of 3 replays"):
            self.assertIn(word, done.stdout)
        with open(os.path.join(self.folder, "out.json"), encoding="utf-8") as file:
            document = json.load(file)
        self.assertEqual(len(document["samples"]["hakmem-standard"]["seconds"]), 2)

    def test_the_traces_that_are_checked_in(self):
        paths = glob.glob(os.path.join(FOLDER, "traces", "*.trace"))
        self.assertGreaterEqual(len(paths), 6)
        library = os.path.join(allocators.BENCH, "lib", "libhakmem_standard.so")
        for path in paths:
            self.assertLessEqual(os.path.getsize(path), 300_000, path)
            done = worker(path, LD_PRELOAD=library)
            self.assertEqual(done.returncode, 0, f"{path}: {done.stderr}")
            self.assertIn("Allocator = hakmem", done.stdout)
            calls = int(done.stdout.split("Calls = ")[1].split()[0])
            self.assertGreater(calls, 10000, path)

    def test_a_wrong_allocator_under_the_name(self):
        path = self.file(trace(one(MALLOC, 100)))
        done = run("replay.py", path, "--allocator", f"glibc,jemalloc={PLANTED}")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("did not use the allocator it names", done.stderr)


if __name__ == "__main__":
    unittest.main()
