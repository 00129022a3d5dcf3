# SPDX-License-Identifier: Apache-2.0
"""The command line, arms and output of the A/B comparison. Nothing here depends on the speed of a run."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from bench.ab import ab_arms
from bench.ab import ab_note
from bench.ab import ab_run
from bench.ab import ab_stats
from bench.ab.ab_arms import Arm, ArmError, Spec
from bench.lib import allocators

BENCH = allocators.BENCH
NOOP = os.path.join(BENCH, "lib", "libnoop.so")


def run(*args, **env):
    base = {key: value for key, value in os.environ.items() if not key.startswith("BUILD_W")}
    return subprocess.run(
        [sys.executable, "-B", os.path.join(BENCH, "ab", "ab.py"), *args],
        env={**base, **env}, capture_output=True, text=True, timeout=240, check=False,
    )


class ArmTest(unittest.TestCase):
    def test_good(self):
        cases = {
            "fast": Spec("fast"),
            "glibc": Spec("glibc"),
            "HAKMEM_BORROW=0": Spec("standard", settings=(("HAKMEM_BORROW", "0"),)),
            "standard B=1 A=2": Spec("standard", settings=(("A", "2"), ("B", "1"))),
            "observe 'A=two words' B=": Spec("observe", settings=(("A", "two words"), ("B", ""))),
            "build:--config=clang": Spec("build", flags=("--config=clang",)),
            "build:--a=x=y --b A=1": Spec("build", flags=("--a=x=y", "--b"), settings=(("A", "1"),)),
            "lib:lib/libnoop.so": Spec("lib", NOOP),
            f"lib:{NOOP} A=1": Spec("lib", NOOP, settings=(("A", "1"),)),
        }
        for text, spec in cases.items():
            self.assertEqual(ab_arms.parse(text, BENCH, "/workspace"), spec, text)

    def test_bad(self):
        for text in ("", " ", "nope", "hakmem-fast", "fast fast", "fast --flag", "--flag", "build:", "build:x",
                     "build:--config=clang x", "git:", "git:-x", "lib:", "lib:/no/such/library.so", f"lib:{BENCH}",
                     "url:x", "'open", "A=1 A=2", "LD_PRELOAD=x", "fast HAKMEM_BORROW=0", "A=1 fast", "=1", "9=1"):
            with self.assertRaises(ArmError, msg=text):
                ab_arms.parse(text, BENCH, "/workspace")

    def test_nothing_to_build_in(self):
        for text in ("build:--config=clang", "git:HEAD"):
            with self.assertRaises(ArmError, msg=text):
                ab_arms.parse(text, BENCH, None)

    def test_labels(self):
        for text in ("fast", "build:--a --b A=1", "glibc A=1"):
            self.assertEqual(ab_arms.parse(text, BENCH, "/workspace").label, text)
        self.assertEqual(ab_arms.parse(f"lib:{NOOP}", BENCH, None).label, "lib:libnoop.so")

    def test_commits(self):
        with tempfile.TemporaryDirectory() as directory:
            for command in ("init -q", "-c user.name=x -c user.email=x commit -q --allow-empty -m x"):
                subprocess.run(["git", "-C", directory, *command.split()], check=True)
            self.assertEqual(ab_arms.parse("git:HEAD --config=fast", BENCH, directory),
                             Spec("git", "HEAD", ("--config=fast",)))
            with self.assertRaises(ArmError):
                ab_arms.parse("git:HEAD~1", BENCH, directory)

    def test_environment(self):
        arm = Arm("glibc", None, settings=(("A", "1"),))
        self.assertEqual(arm.environment({"A": "0", "B": "2", "LD_PRELOAD": "x"}), {"A": "1", "B": "2"})


class BuildTest(unittest.TestCase):
    """Arms that are built, with a bazelw that copies a library instead."""

    BAZELW = """#!/bin/sh
echo "$PWD $*" >>"$HAKMEM_TEST_LOG"
for word; do
  case $word in
    --fail) echo 'ERROR: broken'; exit 1 ;;
    --symlink_prefix=*) links=${word#*=} ;;
  esac
done
mkdir -p "$links"bin/allocator && cp libhakmem.so "$links"bin/allocator/ && chmod 555 "$links"bin/allocator
"""

    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.workspace = os.path.join(self.directory, "workspace")
        self.log = os.path.join(self.directory, "log")
        os.mkdir(self.workspace)
        os.environ["HAKMEM_TEST_LOG"] = self.log
        self.addCleanup(os.environ.pop, "HAKMEM_TEST_LOG")
        self.write("bazelw", self.BAZELW)
        os.chmod(os.path.join(self.workspace, "bazelw"), 0o755)
        self.write("libhakmem.so", "one")
        self.git("init", "-q")
        self.git("add", ".")
        self.git("-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "x")
        self.write("libhakmem.so", "two")

    def git(self, *words):
        subprocess.run(["git", "-C", self.workspace, *words], check=True)

    def write(self, name, text):
        with open(os.path.join(self.workspace, name), "w", encoding="ascii") as file:
            file.write(text)

    def read(self, path):
        with open(path, encoding="ascii") as file:
            return file.read()

    def test_arms_do_not_overwrite_each_other(self):
        with ab_arms.Workshop(self.workspace) as workshop:
            a = workshop.prepare(ab_arms.parse("git:HEAD --old", BENCH, self.workspace), "a")
            b = workshop.prepare(ab_arms.parse("build:--new X=1", BENCH, self.workspace), "b")
            self.assertEqual((self.read(a.path), self.read(b.path)), ("one", "two"))
            self.assertNotEqual(a.digest(), b.digest())
            self.assertTrue(b.origin.endswith(" with uncommitted changes"), b.origin)
            self.assertNotIn(" ", a.origin)
            folder = workshop.folder
        self.assertFalse(os.path.exists(folder))
        self.assertEqual(os.listdir(os.path.join(self.workspace, ".git")).count("worktrees"), 0)
        old, new = self.read(self.log).splitlines()
        self.assertRegex(old, r"/a/tree --batch --output_base=\S+ build .*--old .*//allocator:libhakmem.so$")
        self.assertRegex(new, r"/workspace build .*--new --platform_suffix=ab .*//allocator:libhakmem.so$")

    def test_failing_build(self):
        with ab_arms.Workshop(self.workspace) as workshop:
            for text in ("build:--fail", "git:HEAD --fail"):
                with self.assertRaisesRegex(ab_arms.BuildError, "ERROR: broken"):
                    workshop.prepare(ab_arms.parse(text, BENCH, self.workspace), "a")
            folder = workshop.folder
        self.assertFalse(os.path.exists(folder))


class CommandLineTest(unittest.TestCase):
    def test_mistakes(self):
        two = ("--a", "fast", "--b", "standard", "--no-note")
        cases = [
            (),
            ("--a", "fast"),
            ("--a", "nope", "--b", "fast", "--no-note"),
            ("--a", "fast", "--b", "lib:/no/such/library.so", "--no-note"),
            ("--a", "fast", "--b", "fast", "--no-note"),
            ("--a", "standard X=1", "--b", "X=1", "--no-note"),
            ("--a", "fast", "--b", "build:--config=clang", "--no-note"),
            ("--a", "fast", "--b", "standard"),  # no folder for the note
            (*two, "--runs", "0"),
            (*two, "--runs", "x"),
            (*two, "--runs", "10", "--max-runs", "9"),
            (*two, "--workload", "nope"),
            (*two, "--metric", "nope"),
            (*two, "--note", "x"),
            (*two, "--title", "a\nb"),
            (*two, "--json", "/no/such/folder/file.json"),
            (*two, "positional"),
            ("--self-check", "--a", "fast"),
            ("--self-check", "--workload", "churn"),
        ]
        for case in cases:
            done = run(*case)
            self.assertEqual(done.returncode, 2, case)
            self.assertIn("usage:", done.stderr, case)
            self.assertEqual(done.stderr.splitlines()[1].split()[0], "usage:", case)
            self.assertEqual(done.stdout, "", case)

    def test_help(self):
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("build:--FLAG", "git:REV", "lib:FILE.so", "NAME=VALUE", "glibc", "--max-runs"):
            self.assertIn(word, done.stdout)


class RefusalTest(unittest.TestCase):
    """A run of another library than the arm's ends the comparison."""

    def refused(self, a, b, *words):
        done = run("--a", a, "--b", b, "--no-note", "--quick", "--runs", "1", "--workload", "large")
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_settings_that_do_nothing(self):
        self.refused("standard", "HAKMEM_BORROW=banana", "arm B", "HAKMEM_BORROW", "not accepted")
        self.refused("HAKMEM_NO_SUCH_SETTING=1", "standard", "arm A", "HAKMEM_NO_SUCH_SETTING")
        self.refused("standard", f"lib:{BENCH}/lib/libhakmem_fast.so HAKMEM_BORROW=0", "arm B", "HAKMEM_BORROW is fixed")

    def test_library_without_malloc(self):
        self.refused("glibc", "lib:" + allocators.find_library(("libm.so.6",)), "large on B", "malloc came from")

    def test_file_that_is_no_library(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(b"no library")
            file.flush()
            self.refused("glibc", "lib:" + file.name, "arm B", "cannot be preloaded")


class OutputTest(unittest.TestCase):
    def test_table_note_and_json(self):
        with tempfile.TemporaryDirectory() as directory:
            notes = os.path.join(directory, "docs", "analysis", "decisions")
            os.makedirs(notes)
            shutil.copy(os.path.realpath(NOOP), os.path.join(directory, "mine.so"))
            command = ("--a", "HAKMEM_PROFILE=lean HAKMEM_BORROW=0", "--b", f"lib:{directory}/mine.so", "--quick",
                       "--runs", "1", "--max-runs", "2", "--workload", "large,exchange", "--json",
                       f"{directory}/out.json")
            env = {"BUILD_WORKSPACE_DIRECTORY": directory, "BUILD_WORKING_DIRECTORY": directory}
            done = run(*command, **env)
            self.assertEqual(done.returncode, 0, done.stderr)
            name = "ab-standard-hakmem-borrow-0-hakmem-profile-vs-lib-mine-so.md"
            self.assertEqual(os.listdir(notes), [name])
            self.assertIn(f"| [{name}](decisions/{name}) |", done.stdout)
            for word in ("Machine:", "Throughput (higher", "Peak RSS (lower", "Memory system calls (lower", "exchange",
                         "all (geometric mean)", "noop"):
                self.assertIn(word, done.stdout)
            self.assertRegex(done.stdout, r"hakmem \d+\.\d+\.\d+ standard")

            with open(os.path.join(notes, name), encoding="utf-8") as file:
                note = file.read()
            self.assertTrue(note.startswith("<!-- SPDX-License-Identifier: Apache-2.0 -->\n# "))
            for word in ("**What.**", "**Measured.**", "**Verdict.**", "| large: 32 KiB..1 MiB, 64 slots |",
                         "| workload | arm | mmap | munmap | madvise | mprotect | mremap | brk |", "`lib:mine.so`",
                         "Throughput UNDECIDED", "looks after 1, 2", "//bench:ab -- --a", "no ground for claims"):
                self.assertIn(word, note.replace("\n", " "))
            self.assertNotIn(directory, note)
            self.assertNotRegex(note, r"(?<![\w./<])/\w+/")

            with open(os.path.join(directory, "out.json"), encoding="utf-8") as file:
                document = json.load(file)
            self.assertEqual((document["rounds"], document["looks"]), (2, [1, 2]))
            self.assertEqual(set(document["metrics"]), {"throughput", "rss", "calls"})
            samples = document["samples"]["exchange"]
            self.assertEqual([len(samples[m][arm]) for m in ("throughput", "rss", "calls") for arm in "ab"],
                             [2, 2, 2, 2, ab_run.CALL_RUNS, ab_run.CALL_RUNS])
            self.assertTrue(all(kinds["mmap"] > 0 for arm in "ab" for kinds in samples["kinds"][arm]))

            again = run(*command, **env)
            self.assertEqual((again.returncode, again.stdout), (2, ""))
            self.assertIn("--force", again.stderr)
            again = run(*command, "--force", "--title", "Which?", "--metric", "calls", **env)
            self.assertEqual(again.returncode, 0, again.stderr)
            with open(os.path.join(notes, name), encoding="utf-8") as file:
                note = file.read()
            self.assertIn("# Which?\n", note)
            self.assertNotIn("Throughput", note)

    def test_self_check_has_both_parts(self):
        # Two pairs decide nothing, so the self-check fails.
        done = run("--self-check", "--quick", "--runs", "2", "--max-runs", "2", "--workload", "small-400")
        self.assertEqual(done.returncode, 1, done.stderr)
        for word in ("Self-check 1 of 2", "Self-check 2 of 2", "--drag of B: small-400", "Self-check: FAILED",
                     "Both arms are the same library"):
            self.assertIn(word, done.stdout)


class TextTest(unittest.TestCase):
    def test_scrub(self):
        cases = {
            "lib:/home/user/x.so": "lib:x.so",
            "A=/etc/a/b '/tmp/x/y z'": "A=b 'y z'",
            "--copt=-I/usr/include/x": "--copt=-Ix",
            "./bazelw run //bench:ab -- --//configs:header=none": "./bazelw run //bench:ab -- --//configs:header=none",
            "ops/s docs/analysis/x.md": "ops/s docs/analysis/x.md",
            "git:feature/a/b": "git:feature/a/b",
        }
        for text, wanted in cases.items():
            self.assertEqual(ab_note.scrub(text), wanted)

    def test_slug(self):
        self.assertEqual(ab_note.slug("build:--//configs:header=preserve"), "build-configs-header-preserve")
        self.assertLessEqual(len(ab_note.slug("x y" * 50)), 40)

    def test_hints(self):
        def hint(*ratio):
            ratio = ab_stats.Ratio(*ratio)
            return ab_note.hint(ab_run.Row(None, None, ratio, ab_stats.verdict(ratio)))

        self.assertEqual(hint(1.0, 1.0, 1.0, 10), "")
        self.assertIn("about 40 runs", hint(1.0, 0.98, 1.02, 10))
        self.assertIn("6 runs are the fewest", hint(1.0, 1.0, 1.0, 3))
        self.assertIn("hardly", hint(1.01, 1.0, 1.02, 10))
        self.assertIn("vary", hint(1.0, 0.9, 1.1, 0))


if __name__ == "__main__":
    unittest.main()
