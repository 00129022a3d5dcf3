#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""in_use tells which programs have hakmem's malloc, with the exact lines.

usage: in_use_test.py IN_USE PROGRAM...
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LABEL = 'malloc = "@hakmem//allocator:malloc"'
ANOTHER = "has another malloc linked in, perhaps that of a static C library: " + LABEL
LIBC = "has the C library's malloc: " + LABEL
STRIPPED = "has no symbols that tell: it is stripped"

# Each kind of program and the reason why it is wrong; None: it is right. RIGHT: whose malloc it then has.
KINDS = {
    "dynamic": LIBC,
    "static": ANOTHER,
    "own": ANOTHER,
    "hidden": ANOTHER,
    "jemalloc": LIBC,
    "hakmem": None,
    "hakmem_static": None,
    "hakmem_stripped": STRIPPED,
    "linked": None,
    "sanitized": None,
    "prefixed": "has only the functions hak_* of hakmem, beside another malloc: " + LABEL + ", not :hakmem",
}

RIGHT = {"sanitized": "the malloc of its sanitizer, and without one hakmem's"}


def run(*arguments):
    done = subprocess.run([TOOL, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    return done.returncode, done.stdout, done.stderr


class InUse(unittest.TestCase):
    maxDiff = None

    def expect(self, program, why):
        right = RIGHT.get(os.path.basename(program).partition("_")[2], "hakmem's malloc")
        expected = (0, "%s has %s\n" % (program, right)) if why is None else (1, "FAILED: %s %s\n" % (program, why))
        self.assertEqual(run(program), (*expected, ""))

    def test_programs(self):
        kinds = {os.path.basename(program).partition("_")[2]: program for program in PROGRAMS}
        self.assertEqual(sorted(kinds), sorted(KINDS))
        for kind, program in kinds.items():
            self.expect(program, KINDS[kind])

    def test_other_files(self):
        no_elf = "is no ELF file: name the cc_binary or cc_test that is to use hakmem"
        self.expect(__file__, no_elf)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "file")
            for content, why in (b"", no_elf), (b"\x7fELF", STRIPPED), (b"\x7fELF" + bytes(5000), STRIPPED):
                path.write_bytes(content)
                self.expect(str(path), why)

    def test_wrong_use(self):
        self.assertEqual(run(), (2, "", "usage: in_use PROGRAM\n"))
        self.assertEqual(run("/nowhere/program"), (2, "", "/nowhere/program: No such file or directory\n"))


if __name__ == "__main__":
    TOOL, *PROGRAMS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
