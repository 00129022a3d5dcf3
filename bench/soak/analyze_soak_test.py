# SPDX-License-Identifier: Apache-2.0
"""The three programs as a whole: verdicts on series with known answers, the page, and messages about mistakes."""

import csv
import io
import re
import unittest
from html.parser import HTMLParser
from statistics import fmean, stdev

from bench.soak import analyze_epoch_tail_csv
from bench.soak import analyze_soak
from bench.soak import calculate_percentiles
from bench.soak import soak_data
from bench.soak import soak_files
from bench.soak.soak_files import Result, epoch_text, latency_text, noisy

VOID = {"meta", "br", "hr", "img", "input", "link"}


class WellFormed(HTMLParser):
    """Fails on a tag that is not closed in order, and keeps the tags, their attributes and the text."""

    def __init__(self, test: unittest.TestCase, text: str) -> None:
        super().__init__()
        self.test, self.open, self.tags, self.attributes, self.text = test, [], [], [], ""
        self.feed(text)
        self.close()
        test.assertEqual(self.open, [])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        self.test.assertEqual(self.open.pop(), tag)

    def handle_data(self, data):
        self.text += data


class VerdictTest(soak_files.FilesTest):
    def summary(self, *args: str) -> dict[str, dict[str, str]]:
        result = self.run_program(analyze_soak, *args, "--summary", "summary.csv")
        self.assertEqual((result.status, result.err), (0, ""))
        return {row["allocator"]: row for row in csv.DictReader(io.StringIO(self.read("summary.csv")))}

    def one(self, rss: object, **columns: object) -> dict[str, str]:
        self.write("a.csv", epoch_text(200, rss_kib=rss, **columns))
        return self.summary("a=a.csv")["a"]

    def verdicts(self, rss: object) -> tuple[str, str]:
        row = self.one(rss)
        return row["rss_strict"], row["rss_practical"]

    def test_constant(self):
        row = self.one(40_000)
        self.assertEqual([float(row[f"rss_slope_{name}"]) for name in ("kib_per_hour", "low", "high")], [0, 0, 0])
        self.assertEqual((row["rss_strict"], row["rss_practical"]), ("steady", "steady"))

    def test_noise(self):
        self.assertEqual(self.verdicts(noisy(1, 200, 40_000, 100)), ("steady", "steady"))

    def test_drift(self):
        # 2 KiB an epoch of 10 s: 720 KiB in an hour.
        row = self.one([r + 2 * i for i, r in enumerate(noisy(2, 200, 40_000, 20))])
        self.assertEqual((row["rss_strict"], row["rss_practical"]), ("drifting", "drifting"))
        self.assertAlmostEqual(float(row["rss_slope_kib_per_hour"]), 720, delta=20)
        self.assertLess(float(row["rss_slope_low"]), 720)
        self.assertGreater(float(row["rss_slope_high"]), 720)

    def test_shrinking_is_drift_too(self):
        self.assertEqual(self.verdicts([40_000 - 10 * i for i in range(200)]), ("drifting", "drifting"))

    def test_negligible(self):
        # A KiB every 25 epochs is certain, 14 KiB in an hour, and in half an hour 7 of 40,000 KiB.
        self.assertEqual(self.verdicts([40_000 + i // 25 for i in range(200)]), ("drifting", "steady (negligible)"))
        # The same beside 1,000 KiB matters.
        self.assertEqual(self.verdicts([1000 + i // 25 for i in range(200)]), ("drifting", "drifting"))

    def test_unclear(self):
        # It rises all the time but more and more slowly: too few independent epochs for certainty, but too much to
        # count as steady.
        rises = [40_000 + round(400 * (1 - 0.97**i)) for i in range(200)]
        self.assertEqual(self.verdicts(rises), ("steady", "unclear"))

    def test_warmup_does_not_count(self):
        self.assertEqual(self.verdicts([1000 * i for i in range(20)] + [40_000] * 180), ("steady", "steady"))

    def test_throughput(self):
        rates = noisy(3, 200, 1_000_000, 30_000)
        row = self.one(40_000, ops_per_s=rates)
        left = rates[20:]
        self.assertAlmostEqual(float(row["cv"]), stdev(left) / fmean(left), 7)
        slow = sorted(left)
        self.assertAlmostEqual(float(row["ops_per_s_p1"]), slow[1] + 0.79 * (slow[2] - slow[1]), 2)
        self.assertAlmostEqual(float(row["ops_per_s_p0.1"]), slow[0] + 0.179 * (slow[1] - slow[0]), 2)

    def test_cost_of_an_op(self):
        calls = {name: 1 for name in soak_data.CALLS}
        row = self.one(40_000, ops=1000, minor_faults=20, major_faults=5, **calls)
        self.assertEqual((float(row["syscalls_per_op"]), float(row["faults_per_op"])), (0.006, 0.025))
        row = self.one(40_000, ops=1000, **(calls | {"brk_calls": -1}))
        self.assertEqual(row["syscalls_per_op"], "")

    def test_reference(self):
        for name, spread in (("quiet", 1000), ("mimalloc", 5000), ("loud", 9000)):
            self.write(f"{name}.csv", epoch_text(100, ops_per_s=noisy(4, 100, 1_000_000, spread)))
        files = [f"{name}={name}.csv" for name in ("quiet", "mimalloc", "loud")]
        found = {name: row["cv_verdict"] for name, row in self.summary(*files).items()}
        self.assertEqual(found, {"quiet": "met", "mimalloc": "reference", "loud": "not met"})
        found = {name: row["cv_verdict"] for name, row in self.summary(*files, "--reference", "quiet").items()}
        self.assertEqual(found, {"quiet": "reference", "mimalloc": "not met", "loud": "not met"})
        found = [row["cv_verdict"] for row in self.summary(files[0], files[2]).values()]
        self.assertEqual(found, ["", ""])

    def test_latency_files(self):
        self.write("a.csv", epoch_text(20))
        self.assertEqual(self.summary("a=a.csv")["a"]["latency_p50_ns"], "")
        self.write("a.latency.csv", latency_text([(0, 1000, 2000, 99), (5, 10, 20, 100)]))  # epoch 0 is warm-up
        self.assertEqual(float(self.summary("a=a.csv")["a"]["latency_p50_ns"]), 15)
        self.assertEqual(float(self.summary("b=a.csv")["b"]["latency_p99_ns"]), 19.9)
        self.write("b.latency.csv", latency_text([(5, 30, 40, 100)]))
        self.assertEqual(float(self.summary("b=a.csv")["b"]["latency_p50_ns"]), 35)
        self.assertEqual(float(self.summary("b=a.csv", "--latency", "b=a.latency.csv")["b"]["latency_p50_ns"]), 15)

    def test_printed_forms(self):
        for name, spread in (("hakmem", 1000), ("mimalloc", 5000)):
            self.write(f"{name}.csv", epoch_text(100, ops_per_s=noisy(4, 100, 1_000_000, spread)))
        files = ["hakmem=hakmem.csv", "mimalloc=mimalloc.csv"]
        plain = self.run_program(analyze_soak, *files).out
        self.assertRegex(plain, r"\nhakmem +0\.0 +0\.0 \.\. 0\.0 +steady +steady +0\.\d\d +0\.20 +met\n")
        self.assertIn("Reference: mimalloc.", plain)
        marked = self.run_program(analyze_soak, *files, "--markdown").out
        row = r"\n\| hakmem \| 0\.0 \| 0\.0 \.\. 0\.0 \| steady \| steady \| 0\.\d\d \| 0\.20 \| met \|\n"
        self.assertRegex(marked, row)
        card = self.run_program(analyze_soak, *files, "--scorecard").out
        self.assertRegex(card, r"\nhakmem: RSS slope's interval contains 0 +0\.0 KiB/h, 0\.0 \.\. 0\.0 +steady\n")
        self.assertRegex(card, r"\nhakmem: CV no worse than mimalloc's +0\.\d\d %, 0\.20 of it +met\n")
        self.assertEqual(len(card.splitlines()), 5)


class PageTest(soak_files.FilesTest):
    def page(self, count: int, with_latency: bool = True) -> str:
        files = []
        for i, name in enumerate(["hakmem", "mimalloc", "<i>&\"odd"]):
            rates, rss = noisy(i, count, 1_000_000, 20_000), noisy(i, count, 40_000 + 5000 * i, 200)
            faults = noisy(i, count, 300, 10)
            files.append(f"{name}=f{i}.csv")
            changed = {"ops_per_s": rates, "rss_kib": rss, "minor_faults": faults, "brk_calls": -(i == 2)}
            self.write(f"f{i}.csv", epoch_text(count, **changed))
            if with_latency:
                rows = [(e, 16 * 2**b, 32 * 2**b, 4 ** (12 - b)) for e in range(count) for b in range(12)]
                self.write(f"f{i}.latency.csv", latency_text(rows))
        result = self.run_program(analyze_soak, *files, "--html", "page.html")
        self.assertEqual((result.status, result.err), (0, ""))
        return self.read("page.html")

    def test_parts(self):
        text = self.page(120)
        page = WellFormed(self, text)
        self.assertEqual(page.tags.count("svg"), 7)
        self.assertEqual(page.tags.count("table"), 4)
        for part in ("Verdicts", "RSS over time", "Drift of RSS", "Throughput over time", "Distribution of throughput",
                     "Latency of a call", "Page faults", "System calls for memory", "RSS, MiB", "throughput, Mops/s",
                     "time, minutes", "share of calls that took longer", "warm-up", "Not counted: <i>&\"odd.", "1 in 100"):
            self.assertIn(part, page.text)
        self.assertNotIn("<i>", text)
        self.assertNotRegex(text, r"\b(nan|inf)\b")

    def test_needs_nothing_else(self):
        text = self.page(30)
        page = WellFormed(self, text)
        self.assertFalse({"script", "link", "img", "iframe", "object", "image", "use"} & set(page.tags))
        self.assertFalse({"href", "src", "xlink:href"} & {name for name, _ in page.attributes})
        self.assertNotIn("http", text)
        self.assertNotIn("@import", text)
        self.assertEqual(set(re.findall(r"url\((.)", text)), {"#"})

    def test_references_within_the_page(self):
        page = WellFormed(self, self.page(30))
        identities = [value for name, value in page.attributes if name == "id"]
        self.assertEqual(len(identities), len(set(identities)))
        wanted = {value[5:-1] for name, value in page.attributes if name == "clip-path"}
        self.assertLessEqual(wanted, set(identities))

    def test_everything_lies_within_its_plot(self):
        for points in re.findall(r'<polyline points="([^"]+)"', self.page(50)):
            for x, y in (map(float, point.split(",")) for point in points.split()):
                self.assertTrue(0 <= x <= 1080 and 0 <= y <= 400, (x, y))

    def test_size(self):
        self.assertLess(len(self.page(3000)), 1_000_000)

    def test_without_histograms(self):
        page = WellFormed(self, self.page(30, with_latency=False))
        self.assertEqual(page.tags.count("svg"), 6)
        self.assertIn("No latency histograms were given.", page.text)

    def test_flat_and_idle(self):
        # Every axis of no extent, and epochs without an op.
        self.write("a.csv", epoch_text(10, ops=0, ops_per_s="0.0", rss_kib=0, max_ns=0))
        result = self.run_program(analyze_soak, "a=a.csv", "--html", "page.html")
        self.assertEqual((result.status, result.err), (0, ""))
        WellFormed(self, self.read("page.html"))


class OtherProgramsTest(soak_files.FilesTest):
    def test_tail(self):
        rates = [1000 + i for i in range(1001)]
        self.write("a.csv", epoch_text(1001, ops_per_s=rates, p99_ns=list(range(1001))))
        result = self.run_program(analyze_epoch_tail_csv, "a.csv", "--warmup", "0", "--format", "csv")
        row = next(csv.DictReader(io.StringIO(result.out)))
        expected = {"epochs": 1001, "mean": 1500, "median": 1500, "p1": 1010, "p0.1": 1001, "slowest": 1000}
        for name, value in expected.items():
            self.assertAlmostEqual(float(row[name if name == "epochs" else f"ops_per_s_{name}"]), value, 6, name)
        self.assertEqual([float(row[f"latency_ns_p99_{what}"]) for what in ("median", "p99", "worst")], [500, 990, 1000])
        table = self.run_program(analyze_epoch_tail_csv, "a.csv", "--warmup", "0").out
        self.assertRegex(table, r"\na\.csv +1,001 +1,500 +1,500 +19\.27 +1,010 +1,001 +1,000 +0\.673\n")
        self.assertIn("p99 of latency is not 1/p1 of throughput", table)
        marked = self.run_program(analyze_epoch_tail_csv, "a.csv", "--warmup", "0", "--format", "markdown").out
        self.assertIn("| a.csv | 1,001 | 1,500 | 1,500 | 19.27 | 1,010 | 1,001 | 1,000 | 0.673 |", marked)

    def test_percentiles(self):
        self.write("a.latency.csv", latency_text([(0, 10, 20, 100), (1, 10, 20, 40), (1, 20, 40, 60)]))
        result = self.run_program(calculate_percentiles, "a.latency.csv", "--percentiles", "35,85,100")
        self.assertEqual(result.out.split("\n"), [
            "latency_ns of 200 calls", "p35                 15.000 ns", "p85                 30.000 ns",
            "p100                40.000 ns", ""])
        result = self.run_program(calculate_percentiles, "a.latency.csv", "--percentiles", "50", "--warmup", "1")
        self.assertEqual(result.out, "latency_ns of 100 calls\np50                 23.333 ns\n")
        self.write("a.csv", epoch_text(11, rss_kib=list(range(11)), brk_calls=-1))
        result = self.run_program(calculate_percentiles, "a.csv", "--column", "rss_kib", "--percentiles", "25")
        self.assertEqual(result.out, "rss_kib of 11 epochs\np25                  2.500 KiB\n")
        result = self.run_program(calculate_percentiles, "a.csv", "--column", "brk_calls")
        self.assertEqual((result.status, result.err),
                         (2, "calculate_percentiles: a.csv: brk_calls was not counted in every epoch\n"))


class UsageTest(soak_files.FilesTest):
    def check(self, result: Result, prog: str, message: str) -> None:
        self.assertEqual((result.status, result.out), (2, ""))
        self.assertTrue(result.err.startswith(f"{prog}: {message}\nusage: {prog} "), result.err)

    def test_messages(self):
        self.write("a.csv", epoch_text(20))
        self.write("a.latency.csv", latency_text([(0, 10, 20, 100)]))
        soak, tail, percentiles = analyze_soak, analyze_epoch_tail_csv, calculate_percentiles
        share = "must be a number of epochs, or a share of them as 0.1 or 10%, not"
        columns = ", ".join(soak_data.NUMERIC)
        for module, args, message in (
            (soak, [], "the following arguments are required: NAME=FILE.csv"),
            (soak, ["a.csv"], "expected NAME=FILE, not 'a.csv'"),
            (soak, ["a=a.csv", "a=a.csv"], "a is given twice"),
            (soak, ["a=a.csv", "--reference", "b"], "--reference does not know 'b' (known: a)"),
            (soak, ["a=a.csv", "--latency", "b=x"], "--latency does not know 'b' (known: a)"),
            (soak, ["a=a.csv", "--warmup", "-1"], f"argument --warmup: {share} '-1'"),
            (soak, ["a=a.csv", "--warmup", "100%"], f"argument --warmup: {share} '100%'"),
            (soak, ["a=a.csv", "--warmup", "1.5"], f"argument --warmup: {share} '1.5'"),
            (soak, ["a=a.csv", "--mark"], "unrecognized arguments: --mark"),
            (tail, [], "the following arguments are required: FILE"),
            (percentiles, ["a.csv"], f"a.csv is an epoch file: it needs --column (one of {columns})"),
            (percentiles, ["a.csv", "--column", "x"], f"--column does not know 'x' (known: {columns})"),
            (percentiles, ["a.latency.csv", "--column", "ops"], "a.latency.csv is a latency file: it takes no --column"),
            (percentiles, ["a.latency.csv", "--phase", "x"], "a.latency.csv is a latency file: it knows no phases"),
            (percentiles, ["a.csv", "--percentiles", "50,x"],
             "argument --percentiles: must be numbers from 0 to 100 with commas between, not '50,x'"),
            (percentiles, ["a.csv", "--percentiles", "101"],
             "argument --percentiles: must be numbers from 0 to 100 with commas between, not '101'"),
        ):
            self.check(self.run_program(module, *args), module.PROG, message)

    def test_other_kinds_of_failure(self):
        self.write("a.csv", epoch_text(20))
        result = self.run_program(analyze_soak, "a=a.csv", "--html", "no/such/page.html")
        self.assertEqual((result.status, result.err), (2, "analyze_soak: no/such/page.html: No such file or directory\n"))
        self.write("odd.csv", "a,b\n")
        result = self.run_program(calculate_percentiles, "odd.csv")
        message = "calculate_percentiles: odd.csv:1: neither the header of an epoch file nor that of a latency file\n"
        self.assertEqual((result.status, result.err), (2, message))

    def test_help(self):
        for module in (analyze_soak, analyze_epoch_tail_csv, calculate_percentiles):
            result = self.run_program(module, "--help")
            self.assertEqual((result.status, result.err), (0, ""))
            self.assertIn("(default: 0)" if module is calculate_percentiles else "(default: 10%)", result.out)


if __name__ == "__main__":
    unittest.main()
