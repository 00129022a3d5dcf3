# SPDX-License-Identifier: Apache-2.0
"""table.inc: Python and random_mixed read the same workloads, and an invalid row is noticed."""

import subprocess
import unittest

from bench.lib import allocators
from bench.workloads import table

ROW = 'WORKLOAD("a-1", walk, 10, 20, 16, 32, 2, 0, FIRST, NONE, SMALL, COMPARED, "some text")\n'
LOOP = "LOOP(walk, DRAG | FIRST_TOUCH)\n"


class TableTest(unittest.TestCase):
    def test_program_knows_them_all(self):
        program = allocators.built_file("workloads/random_mixed_cxx")
        usage = subprocess.run([program, "--help"], stdout=subprocess.PIPE, check=True).stdout.decode()
        lines = {line.split()[0]: line.split() for line in usage.splitlines()[usage.splitlines().index(
            "workloads and their defaults:") + 2:]}
        self.assertGreater(len(table.WORKLOADS), 8)
        for workload in table.WORKLOADS:
            shown = lines[workload.name]
            self.assertEqual((shown[1], shown[2], shown[5]), (str(workload.cycles), str(workload.ws), str(workload.threads)))
            self.assertEqual(" ".join(shown[8:]), workload.text)

    def test_every_group_has_rows(self):
        self.assertEqual({workload.group for workload in table.WORKLOADS}, set(table.GROUPS))

    def test_row(self):
        workload, = table.read(LOOP + ROW)
        self.assertEqual(workload.arguments(True), ["2", "20", "--workload", "a-1"])
        self.assertEqual((workload.threads, workload.shuffled, workload.default), (2, True, True))
        self.assertEqual((workload.group, workload.program, workload.has_floor), ("small", "workloads/random_mixed", True))
        self.assertEqual(workload.size, 16)
        checked, = table.read(LOOP.replace("DRAG", "CHECKED | CXX") + ROW)
        self.assertEqual((checked.program, checked.has_floor), ("workloads/random_mixed_cxx", False))
        self.assertEqual(table.read(LOOP + ROW.replace("COMPARED", "ALONE")), ())
        self.assertFalse(table.read(LOOP + ROW.replace("COMPARED", "NAMED"))[0].default)
        self.assertEqual(len(table.read(LOOP + ROW.replace(", \"", ",\n         \""))), 1)

    def test_rows_that_cannot_be_read(self):
        for text in (ROW, LOOP + ROW.replace("10", "1e6"), LOOP + ROW.replace("COMPARED", "SOMEONE"), LOOP + ROW.replace("SMALL", "TINY"),
                     LOOP + ROW.replace('")', '" )'), LOOP + 'WORKLOAD("b")\n', "LOOP(walk, drag)\n" + ROW):
            with self.assertRaises(ValueError, msg=text):
                table.read(text)


if __name__ == "__main__":
    unittest.main()
