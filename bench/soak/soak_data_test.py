# SPDX-License-Identifier: Apache-2.0
"""Every kind of damaged file with its exact message, and what is read from a good one."""

import unittest

from bench.soak import analyze_epoch_tail_csv
from bench.soak import analyze_soak
from bench.soak import calculate_percentiles
from bench.soak import soak_data
from bench.soak import soak_files
from bench.soak.soak_files import epoch_text, latency_text

HEADER = ",".join(soak_data.COLUMNS)


class BadFileTest(soak_files.FilesTest):
    def check(self, text: str, message: str) -> None:
        """Expects the same message from all three programs, and nothing else on either stream."""
        self.write("bad.csv", text)
        for module, args in ((analyze_soak, ["a=bad.csv"]), (analyze_epoch_tail_csv, ["bad.csv"])):
            result = self.run_program(module, *args)
            self.assertEqual((result.status, result.out, result.err), (2, "", f"{module.PROG}: bad.csv:{message}\n"))

    def change(self, line: int, column: str, value: str) -> str:
        """Twenty good epochs, except one field."""
        lines = epoch_text(20).split("\n")
        fields = lines[line - 1].split(",")
        fields[soak_data.COLUMNS.index(column)] = value
        lines[line - 1] = ",".join(fields)
        return "\n".join(lines)

    def test_no_such_file(self):
        result = self.run_program(analyze_soak, "a=none.csv")
        self.assertEqual((result.status, result.err), (2, "analyze_soak: none.csv: No such file or directory\n"))
        result = self.run_program(calculate_percentiles, "none.csv")
        self.assertEqual((result.status, result.err), (2, "calculate_percentiles: none.csv: No such file or directory\n"))

    def test_empty(self):
        self.check("", "1: empty file")

    def test_not_text(self):
        with open(f"{self.directory}/bytes.csv", "wb") as stream:
            stream.write(b"\xff\xfe\x00")
        self.assertEqual(self.run_program(analyze_soak, "a=bytes.csv").err, "analyze_soak: bytes.csv:1: not a text file\n")

    def test_header(self):
        good = epoch_text(20)
        self.check(good.replace(",vmas", "", 1), "1: column vmas is missing")
        self.check(good.replace(",vmas", ",vmas,extra", 1), "1: unknown column 'extra'")
        self.check(good.replace("epoch,time_s", "time_s,epoch", 1), f"1: the columns must be {HEADER}")
        self.check(good.replace("\n", "\r\n"), "1: column phase is missing")
        self.check(good.split("\n", 1)[1], "1: column epoch is missing")

    def test_number_of_fields(self):
        lines = epoch_text(20).split("\n")
        lines[5] += ",7"
        self.check("\n".join(lines), "6: 25 fields instead of 24")
        lines[5] = ",".join(lines[5].split(",")[:10])
        self.check("\n".join(lines), "6: 10 fields instead of 24")
        lines[5] = ""
        self.check("\n".join(lines), "6: 1 fields instead of 24")

    def test_truncated(self):
        good = epoch_text(20)
        self.check(good[:-1], "21: the last line is truncated: it has no end of line")
        self.check(good[:-30], "21: the last line is truncated: it has no end of line")
        self.check(good[:-30] + "\n", "21: the last line is truncated: 14 fields instead of 24")

    def test_not_numbers(self):
        self.check(self.change(4, "rss_kib", "many"), "4: rss_kib must be a whole number, not 'many'")
        self.check(self.change(4, "rss_kib", ""), "4: rss_kib must be a whole number, not ''")
        self.check(self.change(4, "rss_kib", "1.5"), "4: rss_kib must be a whole number, not '1.5'")
        self.check(self.change(5, "ops_per_s", "nan"), "5: ops_per_s must be a number, not 'nan'")
        self.check(self.change(5, "ops_per_s", "inf"), "5: ops_per_s must be a number, not 'inf'")
        self.check(self.change(5, "ops_per_s", "1e999"), "5: ops_per_s must be finite, not '1e999'")
        self.check(self.change(5, "ops_per_s", " 1"), "5: ops_per_s must be a number, not ' 1'")

    def test_negative(self):
        self.check(self.change(21, "ops", "-1"), "21: ops must not be negative, but is -1")
        self.check(self.change(2, "mmap_calls", "-2"), "2: mmap_calls must not be negative, but is -2")
        self.check(self.change(3, "ops_per_s", "-0.5"), "3: ops_per_s must not be negative, but is -0.5")

    def test_order(self):
        self.check(self.change(7, "epoch", "9"), "7: epoch 9 follows epoch 4")
        self.check(self.change(7, "time_s", "50.000"), "7: time_s 50 is not after 50")
        self.check(self.change(7, "time_s", "49.5"), "7: time_s 49.5 is not after 50")

    def test_phase(self):
        self.check(self.change(3, "phase", ""), "3: phase must be a word, not ''")
        self.check(self.change(3, "phase", "two words"), "3: phase must be a word, not 'two words'")

    def test_too_short(self):
        self.check(epoch_text(8), "9: 7 epochs are left after the warm-up, 8 are needed")
        self.check(HEADER + "\n", "1: 0 epochs are left after the warm-up, 8 are needed")


class BadLatencyTest(soak_files.FilesTest):
    def check(self, text: str, message: str) -> None:
        self.write("a.csv", epoch_text(20))
        self.write("bad.csv", text)
        result = self.run_program(analyze_soak, "a=a.csv", "--latency", "a=bad.csv")
        self.assertEqual((result.status, result.out, result.err), (2, "", f"analyze_soak: bad.csv:{message}\n"))

    def test_messages(self):
        good = [(5, 10, 20, 3), (5, 20, 40, 1), (6, 10, 20, 1)]
        self.check("", "1: empty file")
        self.check(latency_text([]), "1: no bucket follows the header")
        self.check("epoch,low_ns,high_ns\n", "1: column count is missing")
        self.check(latency_text(good)[:-1], "4: the last line is truncated: it has no end of line")
        self.check(latency_text(good) + "7,10\n", "5: the last line is truncated: 2 fields instead of 4")
        self.check(latency_text(good + [(6, 30, 20, 1)]), "5: high_ns 20 is below low_ns 30")
        self.check(latency_text(good + [(6, 40, 50, 0)]), "5: count must be positive")
        self.check(latency_text(good + [(5, 40, 50, 1)]), "5: epoch 5 follows epoch 6")
        self.check(latency_text(good + [(6, 30, 50, 1)]), "5: bucket 30..50 overlaps bucket 20..40")
        self.check(latency_text(good + [(6, -3, 5, 1)]), "5: low_ns must not be negative, but is -3")
        self.check(latency_text([(0, 10, 20, 3)]), "2: no bucket is left of the epochs that count")


class GoodFileTest(soak_files.FilesTest):
    def load(self, text: str) -> soak_data.Run:
        return soak_data.read_run("good.csv", f"{self.directory}/{self.write('good.csv', text)}")

    def test_uncounted_calls(self):
        self.assertEqual(self.load(epoch_text(9, brk_calls=-1)).columns["brk_calls"], [-1] * 9)

    def test_warmup(self):
        run = self.load(epoch_text(25))
        self.assertEqual(soak_data.select(run, 5, False).columns["epoch"][0], 5)
        self.assertEqual(soak_data.select(run, 0.1, True).columns["epoch"][0], 3)  # 2.5, rounded up
        self.assertEqual(len(soak_data.select(run, 0, False)), 25)

    def test_phases(self):
        phases = ["start"] + ["large", "small"] * 10 + ["trough"]
        run = self.load(epoch_text(22, phase=phases))
        self.assertEqual(soak_data.select(run, 0, False).columns["epoch"], list(range(1, 21)))
        self.assertEqual(soak_data.select(run, 0, False, ["small"]).columns["epoch"], list(range(2, 21, 2)))
        with self.assertRaises(soak_data.DataError) as caught:
            soak_data.select(run, 0, False, ["other"])
        expected = "good.csv: no epoch has the phase 'other' (there are: start, large, small, trough)"
        self.assertEqual(str(caught.exception), expected)

    def test_merge(self):
        self.write("l.csv", latency_text([(0, 1, 2, 9), (1, 4, 8, 2), (2, 2, 4, 3), (2, 4, 8, 5)]))
        rows = soak_data.read_latency("l.csv", f"{self.directory}/l.csv")
        self.assertEqual(soak_data.merge_latency("l.csv", rows, {1, 2}), [(2, 4, 3), (4, 8, 7)])


if __name__ == "__main__":
    unittest.main()
