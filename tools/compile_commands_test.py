#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compile_commands.py: what it makes of aquery's output."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, "tools")
import compile_commands  # noqa: E402

ROOTS = {"external": "/base", "bazel-out": "/base/execroot/hakmem"}


def compilation(source, output, *more):
    return {"arguments": ["/usr/bin/clang-19", "-MD", "-MF", output + ".d", "-frandom-seed=" + output, *more, "-c", source,
                          "-o", output]}


class EntriesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = self.folder.name
        for name in ("a.c", "b.cc", "c.S"):
            with open(os.path.join(self.root, name), "w", encoding="utf-8") as file:
                file.write("\n")

    def entries(self, *actions):
        return compile_commands.entries({"actions": list(actions)}, self.root, ROOTS)

    def test_command_without_what_it_writes(self):
        self.assertEqual(self.entries(compilation("a.c", "bazel-out/k8/a.o", "-DX=1")), [
            {"directory": self.root, "file": "a.c", "arguments": ["/usr/bin/clang-19", "-DX=1", "-c", "a.c"]}])

    def test_folders_of_bazel_are_absolute(self):
        found = self.entries(compilation("b.cc", "o", "-iquote", "external/gtest", "-Ibazel-out/k8/bin", "-Iexternals/x"))
        self.assertEqual(found[0]["arguments"][1:-2], [
            "-iquote", "/base/external/gtest", "-I/base/execroot/hakmem/bazel-out/k8/bin", "-Iexternals/x"])

    def test_one_entry_for_each_file_in_order(self):
        found = self.entries(compilation("b.cc", "o"), compilation("a.c", "bazel-out/k8-fast/a.o", "-DFAST"),
                             compilation("a.c", "bazel-out/k8/a.o"), compilation("a.c", "bazel-out/k8-pic/a.o", "-DPIC"))
        self.assertEqual([entry["file"] for entry in found], ["a.c", "b.cc"])
        self.assertEqual(found[0]["arguments"], ["/usr/bin/clang-19", "-c", "a.c"])

    def test_files_of_others_are_left_out(self):
        self.assertEqual(self.entries(compilation("external/gtest/all.cc", "o"), compilation("c.S", "o"),
                                      compilation("bazel-out/k8/generated.c", "o"), {"arguments": ["/usr/bin/ar"]}), [])


if __name__ == "__main__":
    unittest.main()
