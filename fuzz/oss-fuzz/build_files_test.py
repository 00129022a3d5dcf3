#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The BUILD files read without Bazel have the same contents as read by Bazel.

usage: build_files_test.py TARGET.sources...     the lists of all targets, from Bazel's query
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

# The files beside this one in the source tree. They are not inputs of the test, which reads the same tree as Bazel.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

import build_files  # noqa: E402  pylint: disable=wrong-import-position
import fuzz_targets  # noqa: E402  pylint: disable=wrong-import-position

LISTS = {}
# Headers that Bazel lists for builds with a planted bug.
PLANTED = set()


def sources_of(path):
    """The files of a list that are compiled or included, without those of settings and of Bazel itself."""
    labels = pathlib.Path(path).read_text(encoding="utf-8").split()
    paths = [label[2:].replace(":", "/") for label in labels if label.startswith("//")]
    return sorted(path for path in paths if path.endswith((".c", ".cc", ".cpp", ".h", ".inc")))


class AgainstBazel(unittest.TestCase):
    def setUp(self):
        self.targets = fuzz_targets.fuzz_targets(fuzz_targets.open_workspace())

    def test_the_same_targets(self):
        self.assertTrue(LISTS)
        self.assertEqual(sorted(self.targets), sorted(LISTS))

    def test_the_same_files(self):
        for name, target in self.targets.items():
            with self.subTest(target=name):
                planted_only = PLANTED - set(target.files)
                self.assertEqual(target.files, sorted(set(sources_of(LISTS[name])) - planted_only))
                self.assertGreater(len(target.files), 5)

    def test_what_lies_beside(self):
        for name, target in self.targets.items():
            with self.subTest(target=name):
                self.assertTrue(target.corpus)
                self.assertEqual({str(pathlib.PurePath(path).parent) for path in target.corpus}, {"fuzz/corpus/" + name})
                self.assertIsNotNone(target.max_len)

    def test_options(self):
        sources = {source.path: source.options for target in self.targets.values() for source in target.sources}
        for path, options in sources.items():
            with self.subTest(source=path):
                self.assertIn("-std=c17" if path.endswith(".c") else "-std=c++17", options)
                self.assertIn("-DHAK_PROFILE_STANDARD=1", options)
                self.assertNotIn("-Werror", options)
        observe = fuzz_targets.fuzz_targets(fuzz_targets.open_workspace(profile="observe"))
        for target in observe.values():
            for source in target.sources:
                self.assertIn("-DHAK_PROFILE_OBSERVE=1", source.options)


class ProjectFiles(unittest.TestCase):
    """The files that the infrastructure reads exist. It has no check of its own that could run here."""

    def test_oss_fuzz(self):
        folder = fuzz_targets.ROOT / "fuzz/oss-fuzz"
        keys = re.findall(r"^([a-z_]+):", (folder / "project.yaml").read_text(encoding="utf-8"), re.MULTILINE)
        self.assertEqual(sorted(keys), sorted([
            "homepage", "language", "primary_contact", "main_repo", "sanitizers", "architectures", "fuzzing_engines"]))
        self.check_dockerfile(folder / "Dockerfile", "build.sh")

    def test_cluster_fuzz_lite(self):
        folder = fuzz_targets.ROOT / ".clusterfuzzlite"
        self.assertIn("language: c++\n", (folder / "project.yaml").read_text(encoding="utf-8"))
        self.check_dockerfile(folder / "Dockerfile", ".clusterfuzzlite/build.sh")

    def check_dockerfile(self, path, script):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        self.assertRegex(lines[0], r"^FROM gcr\.io/oss-fuzz-base/base-builder(:v1)?$")
        # The tree is where build.sh looks for it.
        self.assertIn("hakmem", lines[1].split()[-1])
        self.assertEqual(lines[2:], ["WORKDIR hakmem", "COPY %s $SRC/" % script])


class BrokenFile(unittest.TestCase):
    """If a file does not compile, only the targets that contain it are left out."""

    BROKEN = "allocator/api/libc_override.c"

    def build(self, *options):
        # A compiler that makes empty objects, but of one file.
        compiler = ("case \" $* \" in *' %s '*) echo 'broken file' >&2; exit 1;; esac; "
                    "while [ $# -gt 1 ]; do [ \"$1\" != -o ] || : >\"$2\"; shift; done" % self.BROKEN)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "out"
            environment = dict(os.environ, CC="sh -c %s cc" % shlex.quote(compiler),
                               CXX="sh -c %s cc" % shlex.quote(compiler), CFLAGS="", CXXFLAGS="", OUT=str(out),
                               LIB_FUZZING_ENGINE="-fsanitize=fuzzer", WORK=folder)
            tool = fuzz_targets.ROOT / "fuzz/oss-fuzz/build_targets.py"
            done = subprocess.run([sys.executable, "-B", str(tool)] + list(options), env=environment, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            return done.returncode, done.stderr.decode(), {path.name for path in out.iterdir()}

    def setUp(self):
        targets = fuzz_targets.fuzz_targets(fuzz_targets.open_workspace())
        self.whole = {name for name, target in targets.items() if self.BROKEN not in target.files}
        self.broken = set(targets) - self.whole
        self.assertTrue(self.whole and self.broken)

    def test_the_others_are_built(self):
        status, errors, files = self.build("--keep-going")
        self.assertEqual(status, 0)
        self.assertEqual(files & (self.whole | self.broken), self.whole)
        for name in self.broken:
            self.assertIn("build_targets.py: %s is not built" % name, errors)
            self.assertFalse([file for file in files if file.startswith(name + ".")])
        self.assertIn("broken file", errors)

    def test_without_the_option_it_is_a_failure(self):
        status, _, files = self.build()
        self.assertEqual(status, 2)
        self.assertTrue(self.whole <= files)

    def test_nothing_built_is_a_failure(self):
        status, _, _ = self.build("--keep-going", *self.broken)
        self.assertEqual(status, 2)


class SmallTree(unittest.TestCase):
    """The language itself, on trees of one or two files."""

    def setUp(self):
        # pylint: disable=consider-using-with
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.root = pathlib.Path(self._folder.name)

    def workspace(self, files, flags=None):
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text, encoding="utf-8")
        return build_files.Workspace(self.root, flags or {})

    def test_select_glob_and_macro(self):
        files = {
            "a/BUILD.bazel": "load('//b:macro.bzl', lib = 'library')\n"
                             "string_flag(name = 'f', build_setting_default = 'x', values = ['x', 'y'])\n"
                             "config_setting(name = 'is_y', flag_values = {':f': 'y'})\n"
                             "[lib(name = n) for n in ['one', 'two']]\n",
            "a/one.c": "", "a/one_y.c": "", "a/two.c": "",
            "b/BUILD.bazel": "",
            "b/macro.bzl": "def library(name):\n"
                           "    native.cc_library(name = name, srcs = native.glob([name + '.c']) + select({\n"
                           "        '//a:is_y': [name + '_y.c'], '//conditions:default': []}))\n",
        }
        plain = self.workspace(files)
        self.assertEqual(plain.resolve(plain.target("//a:one"), "srcs"), ["one.c"])
        chosen = self.workspace(files, {"//a:f": "y"})
        self.assertEqual(chosen.resolve(chosen.target("//a:one"), "srcs"), ["one.c", "one_y.c"])

    def test_what_is_wrong_is_named(self):
        cases = {
            "no such target": "cc_library(name = 'x', deps = [':missing'])",
            "other repositories": "cc_library(name = 'x', deps = ['@other//:y'])",
            "no condition of a select holds":
                "config_setting(name = 'c', values = {'compilation_mode': 'dbg'})\n"
                "cc_library(name = 'x', deps = select({':c': []}))",
            "syntax error": "cc_library(name = ",
            "no reason": "fail('no reason')",
            "No such file": "load('//a:missing.bzl', 'y')",
        }
        for number, (message, text) in enumerate(cases.items()):
            with self.subTest(message=message):
                with self.assertRaisesRegex(build_files.BuildFileError, "(?i)" + message):
                    workspace = self.workspace({"p%d/BUILD.bazel" % number: text})
                    workspace.closure("//p%d:x" % number)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        LISTS[pathlib.Path(argument).name[:-len(".sources")]] = argument
    PLANTED.update(sources_of(LISTS.pop("planted")))
    unittest.main(argv=sys.argv[:1])
