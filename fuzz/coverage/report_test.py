#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The coverage report counts correctly, and refuses a table of explanations that does not fit."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPORT = pathlib.Path(__file__).resolve().parent / "report.py"

# File a.c: f in lines 3 to 6, of which 6 is a comment, g in lines 7 to 10, of which 10 is empty; line 1 is a macro.
SOURCE = "#define M\n\nf {\n  1;\n  2;\n  // 3\ng {\n  1;\n  2;\n\n}\n"
EVERY = "SF:{root}/allocator/os/a.c\nFN:3,f\nFN:7,a.c:g\nDA:1,0\n" + "".join(
    "DA:%d,0\n" % line for line in (3, 4, 5, 6, 7, 8, 9, 10)) + "end_of_record\nSF:{root}/fuzz/t.cc\nFN:1,t\nDA:1,0\nend_of_record\n"
TARGET = "SF:{root}/allocator/os/a.c\nDA:3,1\nDA:4,2\nDA:5,7\nDA:6,7\nDA:7,1\nDA:8,0\nDA:9,0\nend_of_record\n" \
         "SF:{root}/allocator/os/other.h\nFN:1,h\nDA:1,5\nend_of_record\n"
ROW = "never\tallocator/os/a.c\tg\tit aborts\n"


class Report(unittest.TestCase):
    def run_report(self, table, target=TARGET, every=EVERY, floor="0"):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name).resolve()
            folder = root / "lcov" / "standard"
            folder.mkdir(parents=True)
            (root / "allocator" / "os").mkdir(parents=True)
            (root / "allocator" / "os" / "a.c").write_text(SOURCE, encoding="utf-8")
            (folder / "allocator.lcov").write_text(every.format(root=root), encoding="utf-8")
            (folder / "one_fuzzer.lcov").write_text(target.format(root=root), encoding="utf-8")
            (root / "table").write_text(table, encoding="utf-8")
            (root / "settings").write_text("# comment\ndefault\n", encoding="utf-8")
            done = subprocess.run(
                [sys.executable, str(REPORT), "--root", str(root), "--table", str(root / "table"), "--settings",
                 str(root / "settings"), "--floor", floor, "--out", str(root / "out.md"), str(root / "lcov")],
                check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            page = root / "out.md"
            return done.returncode, done.stdout.decode(), page.read_text(encoding="utf-8") if page.is_file() else ""

    def test_counts_and_explains(self):
        status, said, page = self.run_report(ROW)
        self.assertEqual((status, said), (0, "4 of 6 lines reached: 66.7 %\n"))
        self.assertIn("| standard | 6 | 4 | 66.7 % |", page)
        self.assertIn("| `one_fuzzer` | 4 | 4 |", page)
        self.assertIn("| `allocator/os/a.c` | `g` | 8-9 | it aborts |", page)
        self.assertNotIn("fuzz/t.cc", page)
        self.assertNotIn("other.h", page)

    def test_unexplained(self):
        status, said, page = self.run_report("")
        self.assertEqual(status, 1)
        self.assertIn("allocator/os/a.c: g: lines 8-9 are not reached, and the table has no explanation", said)
        self.assertIn("**not explained**", page)

    def test_row_that_fits_nothing(self):
        for row in ("never\tallocator/os/a.c\tf\tx\n", "sometimes\tallocator/os/a.c\tgone\tx\n", "never\tallocator/b.c\tg\tx\n"):
            with self.subTest(row=row):
                status, said, _ = self.run_report(ROW + row)
                self.assertEqual(status, 1)
                self.assertIn("the table explains why it is not reached, but all of it is, or it is not there", said)

    def test_sometimes(self):
        self.assertEqual(self.run_report(ROW + "sometimes\tallocator/os/a.c\tf\tx\n")[0], 0)

    def test_whole_file(self):
        row = "never\tallocator/os/a.c\t*\tnot linked\n"
        status, _, page = self.run_report(row, target="")
        self.assertEqual(status, 0)
        self.assertIn("| `allocator/os/a.c` | `f` | 3-5 | not linked |", page)
        # Once anything of the file is reached, each function needs its own explanation.
        self.assertEqual(self.run_report(row)[0], 1)

    def test_floor(self):
        self.assertEqual(self.run_report(ROW, floor="66")[0], 0)
        status, said, _ = self.run_report(ROW, floor="67")
        self.assertEqual(status, 1)
        self.assertIn("below the floor of 67.0 %", said)

    def test_bad_input(self):
        self.assertEqual(self.run_report(ROW, every="")[0], 2)
        for table in ("never\tallocator/os/a.c\tg\n", "always\tallocator/os/a.c\tg\tx\n", ROW + ROW):
            with self.subTest(table=table):
                status, said, _ = self.run_report(table)
                self.assertEqual(status, 2)
                self.assertRegex(said, "table:[12]: ")


if __name__ == "__main__":
    unittest.main()
