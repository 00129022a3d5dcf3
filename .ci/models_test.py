#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants changes into a copy of modelled code; models.py must name each, and nothing else."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
CODE = "allocator/heap/give_back.c"
MODEL = "fuzz/spin/remote.pml"
LOOK = " is not as it was compared with the model: compare them, then .ci/models.py --write\n"


class Models(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for name in (CODE, "allocator/heap/remote.c", MODEL):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE.parent / name, self.root / name)
        (self.root / ".ci").mkdir()
        shutil.copy(HERE / "models.py", self.root / ".ci/models.py")
        self.assertEqual(self.run_it("--write"), (0, ""))
        self.assertEqual(self.run_it(), (0, ""))

    def run_it(self, *arguments):
        done = subprocess.run(
            [sys.executable, self.root / ".ci/models.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return done.returncode, done.stdout.decode()

    def change(self, name, old, new):
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        self.assertEqual(text.count(old), 1, old)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def test_a_changed_function_is_named(self):
        self.change(CODE, "!= &hak_orphanage) break;", "== NULL) break;")
        self.assertEqual(self.run_it(), (1, "remote.pml: return_orphans in %s%s" % (CODE, LOOK)))

    def test_a_comment_is_no_change(self):
        self.change(CODE, "// Adopted meanwhile.", "// It was adopted meanwhile.")
        self.assertEqual(self.run_it(), (0, ""))

    def test_a_function_that_no_model_describes_is_free(self):
        self.change(CODE, "table->used |= 1u << slot;", "table->used |= 2u << slot;")
        self.assertEqual(self.run_it(), (0, ""))

    def test_a_changed_model_is_named(self):
        self.change(MODEL, "#define THREADS 3", "#define THREADS 2")
        self.assertEqual(self.run_it(), (1, "remote.pml: %s%s" % (MODEL, LOOK)))

    def test_a_step_that_is_gone_is_named(self):
        self.change(CODE, "Step T2 of remote.pml", "See remote.pml")
        self.assertEqual(self.run_it(), (1, "remote.pml: return_orphans in %s%s" % (CODE, LOOK)))

    def test_a_wrong_option(self):
        status, text = self.run_it("--check")
        self.assertEqual((status, text), (2, "usage: models.py [--write]\n"))


unittest.main()
