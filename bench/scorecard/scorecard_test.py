# SPDX-License-Identifier: Apache-2.0
"""The scorecard: verdicts, bad files, and that the page shows what is kept."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from bench.scorecard import results, scorecard, targets


def cell(speed, ratio, interval, rss):
    return {"ops_per_second": speed, "ratio": ratio, "ratio_interval": interval, "peak_rss_kib": rss, "runs": 7}


ROWS = {
    "mixed-400": {
        "hakmem-fast": cell(120e6, 1.10, [1.08, 1.12], 2000),
        "hakmem-standard": cell(114e6, 1.05, [1.04, 1.06], 2100),
        "noop": cell(130e6, None, None, 1000),
        "glibc": cell(90e6, 0.8, [0.7, 0.9], 1600),
        "tcmalloc": cell(110e6, 1.0, [1.0, 1.0], 7000),
    },
    "large": {
        "hakmem-fast": cell(10e6, 0.9, [0.8, 0.95], 1000),
        "hakmem-standard": cell(10e6, 0.9, [0.8, 1.05], 1000),
        "mimalloc": {"failure": "it ended with signal 6"},
        "glibc": cell(11e6, 1.0, [1.0, 1.0], 1000),
    },
}
FACTS = {key: "x" for key in results.MACHINE}


def document():
    return {"format": 1, "machine": FACTS, "rounds": 7, "allocators": {"glibc": "glibc 2.36 (/lib/libc.so.6)"},
            "workloads": {name: {"summary": {"best_peer": "glibc", "allocators": rows}} for name, rows in ROWS.items()}}


def result():
    return results.Result("r.json", "2026-01-02", "c" * 40, FACTS, {"glibc": "glibc 2.36"}, ROWS, {"large": "glibc"})


class VerdictTest(unittest.TestCase):
    def test_the_interval_decides(self):
        at_least = targets.Target("t", 1.0, True)
        at_most = targets.Target("t", 1.0, False)
        for low, high, upward, downward in ((1.0, 1.2, "met", "within"), (0.9, 1.1, "within", "within"),
                                            (0.8, 0.9, "not met", "met"), (1.1, 1.2, "met", "not met")):
            value = targets.Value((low + high) / 2, low, high)
            self.assertEqual(targets.verdict(at_least, value), upward, value)
            self.assertEqual(targets.verdict(at_most, value), downward, value)


class ValueTest(unittest.TestCase):
    def test_ratio(self):
        self.assertEqual(targets.ratio_to_best("mixed-400", "hakmem-fast")(result()), (1.10, 1.08, 1.12))
        self.assertIsNone(targets.ratio_to_best("mixed-400", "noop")(result()))
        self.assertIsNone(targets.ratio_to_best("large", "mimalloc")(result()))
        self.assertIsNone(targets.ratio_to_best("growth-20k", "hakmem-fast")(result()))

    def test_means(self):
        self.assertAlmostEqual(targets.mean_ratio_to_best("hakmem-fast")(result()).value, (1.10 * 0.9) ** 0.5)
        self.assertAlmostEqual(targets.standard_to_fast(result()).value, 0.95 ** 0.5)
        self.assertAlmostEqual(targets.memory_to_leanest("hakmem-standard")(result()).value, (2100 / 1600) ** 0.5)

    def test_golden(self):
        golden = {"x86-64, gcc 12, fast, shared": {"malloc": [16, 6, 1, 2, 0, 0], "free": [17, 9, 2, 2, 1, 0]}}
        self.assertEqual(targets.pair_instructions("fast")(golden).value, 33)
        self.assertIsNone(targets.pair_instructions("standard")(golden))
        self.assertEqual(targets.fast_path_locks(golden).value, 1)


class PageTest(unittest.TestCase):
    def test_each_target_has_a_line_and_a_verdict(self):
        text = scorecard.page([result()], {})
        self.assertIn("| mixed-400: FAST to the best peer of the row | ≥ 1.070 | 1.100 | 1.080 to 1.120 | met | r.json |", text)
        self.assertIn("| large: FAST to the best peer of the row | ≥ 1 | 0.900 | 0.800 to 0.950 | not met | r.json |", text)
        self.assertIn("| instructions of malloc(64) and free, FAST | ≤ 29 | - | - | not measured | - |", text)

    def test_the_checked_in_page_is_current(self):
        with open(os.path.join(scorecard.ROOT, scorecard.PAGE), encoding="utf-8") as file:
            self.assertEqual(file.read(), scorecard.render(scorecard.ROOT))


class FilesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, text):
        path = os.path.join(self.folder.name, "f.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_a_comparison_is_kept_without_its_samples(self):
        kept = results.reduce_comparison(self.write(json.dumps(document())), "2026-01-02", "c" * 40)
        read = results.read(self.write(json.dumps(kept)))
        self.assertEqual(read, result()._replace(name="f.json", best_peers={"mixed-400": "glibc", "large": "glibc"}))

    def test_results_of_one_day_are_in_the_order_in_which_they_were_kept(self):
        for number, commit in enumerate(["f", "a", "c"]):
            kept = results.reduce_comparison(self.write(json.dumps(document())), "2026-01-02", commit * 40)
            kept["number"] = number
            with open(os.path.join(self.folder.name, commit + ".json"), "w", encoding="utf-8") as file:
                json.dump(kept, file)
        os.remove(os.path.join(self.folder.name, "f.json"))
        kept["number"] = 0
        with open(os.path.join(self.folder.name, "z.json"), "w", encoding="utf-8") as file:
            json.dump(dict(kept, day="2026-01-01", number=9), file)
        self.assertEqual([one.name for one in results.read_all(self.folder.name)], ["z.json", "a.json", "c.json"])

    def test_other_files_are_named_and_refused(self):
        other = document()
        del other["workloads"]
        for text, why in (("", "not JSON"), ("[]", "not a result of format 1"), ('{"format": 2}', "not a result of format 1"),
                          (json.dumps(other), "not a result of //bench:compare")):
            path = self.write(text)
            with self.assertRaisesRegex(results.ResultError, f"^{path}: {why}"):
                results.reduce_comparison(path, "2026-01-02", "c")
        with self.assertRaisesRegex(results.ResultError, "no 'day'"):
            results.read(self.write('{"format": 1}'))

    def test_mistakes_end_with_2_and_one_line(self):
        program = os.path.join(os.path.dirname(os.path.abspath(scorecard.__file__)), "scorecard.py")
        for arguments in (["--nope"], ["--add"], ["--add", self.write("{")], ["--add", "/no/such.json"]):
            environment = dict(os.environ, BUILD_WORKSPACE_DIRECTORY=self.folder.name)
            done = subprocess.run([sys.executable, "-B", program, *arguments], env=environment, capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertRegex(done.stderr, r"^scorecard: .*\nusage: ")


if __name__ == "__main__":
    unittest.main()
