#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/bazel starts the Bazel that it is told, or else the last beside it by name.

usage: bazel_test.py TOOLS_BAZEL BAZELVERSION
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest


class Bazel(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def installed(self, *names):
        for name in names:
            (self.folder / name).write_text('#!/bin/sh\nprintf "%s|" ' + name + ' "$@"\nexit 7\n')
            (self.folder / name).chmod(0o755)

    def run_bazel(self, wanted):
        environment = {"PATH": "/usr/bin:/bin"}
        if wanted:
            environment["BAZEL_REAL"] = str(self.folder / wanted)
        done = subprocess.run([TOOLS_BAZEL, "test", "//a b"], check=False, env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True)
        return done.returncode, done.stdout, done.stderr

    def test_the_one_that_is_wanted(self):
        self.installed("bazel-7.7.1", "bazel-4", "bazel-9")
        self.assertEqual(self.run_bazel("bazel-7.7.1"), (7, "bazel-7.7.1|test|//a b|", ""))

    def test_another_beside_it(self):
        self.installed("bazel-4")
        self.assertEqual(self.run_bazel("bazel-7.7.1"), (7, "bazel-4|test|//a b|", ""))
        self.installed("bazel-7")
        self.assertEqual(self.run_bazel("bazel-7.7.1"), (7, "bazel-7|test|//a b|", ""))

    def test_debians_other_name(self):
        self.installed("bazel-real")
        (self.folder / "bazel-no-program").write_text("")
        self.assertEqual(self.run_bazel("bazel-7.7.1"), (7, "bazel-real|test|//a b|", ""))

    def test_none(self):
        self.assertEqual(self.run_bazel("bazel-7.7.1"),
                         (2, "", "tools/bazel: neither %s/bazel-7.7.1 nor another Bazel beside it; ./bazelw installs Debian's\n"
                          % self.folder))
        self.assertEqual(self.run_bazel(None), (2, "", "tools/bazel: start bazel, which starts this script\n"))

    def test_the_version_is_one_that_bazelisk_knows(self):
        self.assertRegex(pathlib.Path(BAZELVERSION).read_text(), r"\A\d+\.\d+\.\d+\n\Z")


if __name__ == "__main__":
    TOOLS_BAZEL, BAZELVERSION = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
