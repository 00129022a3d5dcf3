#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks settings that are compiled into programs, for each way to link or preload the allocator.

usage: conf_test.py NAME=FILE...

The programs are built from conf_child.c; allocator/test/BUILD.bazel says how each name is built.
"""

import os
import re
import subprocess
import sys
import unittest

FILES = {}

END = "is not accepted; accepted: "
# What the programs print about the bad items in the settings of the build.
OF_THE_BUILD = [
    'hakmem: //configs:conf: "thp="o\\n"??/\'$x\'" ' + END + "auto, on, off; using ",
    'hakmem: //configs:conf: "bogus" ' + END + "NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists",
]


def ended(name, preload=None, **settings):
    """Runs the program with these variables alone; returns its status and stderr. The program prints when main begins."""
    environment = {"PATH": "/usr/bin:/bin"}
    environment.update(settings)
    if preload:
        environment["LD_PRELOAD"] = os.path.abspath(FILES[preload])
    done = subprocess.run([FILES[name]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=60)
    if done.stdout != ("main\n" if done.returncode == 0 else ""):
        raise AssertionError("%s printed: %s" % (name, done.stdout))
    return done.returncode, done.stderr


def run(name, preload=None, **settings):
    """Runs the program with these settings; returns setting -> "value (origin)", and the other lines of stderr."""
    environment = {"PATH": "/usr/bin:/bin", "HAKMEM_SHOW_CONFIG": "1"}
    environment.update(settings)
    if preload:
        environment["LD_PRELOAD"] = os.path.abspath(FILES[preload])
    done = subprocess.run([FILES[name]], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError("%s ended with %d: %s" % (name, done.returncode, done.stderr))
    shown, others = {}, []
    for line in done.stderr.splitlines():
        match = re.fullmatch(r"hakmem: HAKMEM_(\w+)=(\S* \(.*\))", line)
        if match:
            shown[match.group(1)] = match.group(2)
        elif re.fullmatch(r"hakmem: version \d+\.\d+\.\d+ \w+ header=\w+", line):
            shown["version"] = line
        elif re.fullmatch(r"hakmem: in use: this process calls hakmem \d+\.\d+\.\d+ \w+ header=\w+", line):
            shown["in use"] = line
        else:
            others.append(line)
    return shown, others


class Conf(unittest.TestCase):
    maxDiff = None

    def expect(self, got, **wanted):
        shown, messages = got
        self.assertEqual(messages, [])
        self.assertEqual({name: shown.get(name) for name in wanted}, wanted)

    def expect_build(self, got, thp, **wanted):
        """As expect, for a program built with //configs:conf. `thp`: what the setting with the bad value must be."""
        shown, messages = got
        self.assertEqual(messages, [OF_THE_BUILD[0] + thp.split()[0], OF_THE_BUILD[1]])
        self.expect((shown, []), THP=thp, **wanted)

    def test_without_any(self):
        self.expect(run("none"), PROFILE="balanced (default)", KEEP_SUPERSLABS="1 (default)")
        self.expect(run("none", HAKMEM_KEEP_SUPERSLABS="3"), KEEP_SUPERSLABS="3 (environment)")
        self.assertRegex(run("build")[0]["version"], r"^hakmem: version \S+ standard header=none$")
        self.assertRegex(run("fast_build")[0]["version"], r"^hakmem: version \S+ fast header=none$")
        for name in "build", "fast_build", "none", "own", "own_static", "own_linked":
            self.assertIn("in use", run(name)[0])

    def test_a_mistake_in_strict_mode_ends_the_program_before_main(self):
        unknown = 'hakmem: "HAKMEM_PROFIL" in the environment is no setting; the nearest is HAKMEM_PROFILE'
        strict = "; HAKMEM_CONF_STRICT ends the process"
        for name, preload in ("none", None), ("own", None), ("own_static", None), ("own_linked", None), (
                "own_exported", "library"):
            self.assertEqual(ended(name, preload, HAKMEM_PROFIL="lean"), (0, unknown + "\n"), name)
            got = ended(name, preload, HAKMEM_PROFIL="lean", HAKMEM_CONF_STRICT="1")
            self.assertEqual(got, (1, unknown + strict + "\n"), name)
        for name in "build", "fast_build":
            got = ended(name, HAKMEM_CONF_STRICT="yes")
            self.assertEqual(got, (1, OF_THE_BUILD[0].split("; using")[0] + strict + "\n"), name)

    def test_own_conf_however_the_program_is_linked(self):
        for got in (run("own"), run("own_static"), run("own_linked"), run("own_exported", "library"),
                    run("own_rdynamic", "library")):
            self.expect(got, PROFILE="speed (hak_conf)", KEEP_SUPERSLABS="7 (hak_conf)", KEEP_FREE_KB="4096 (preset)",
                        IDLE_WATCH="1 (default)")

    def test_a_preloaded_library_does_not_see_what_is_not_exported(self):
        self.expect(run("own_hidden", "library"), PROFILE="balanced (default)", KEEP_SUPERSLABS="1 (default)")

    def test_environment_beats_own_conf(self):
        for name, preload in ("own", None), ("own_static", None), ("own_linked", None), ("own_exported", "library"):
            self.expect(run(name, preload, HAKMEM_KEEP_SUPERSLABS="3"), PROFILE="speed (hak_conf)",
                        KEEP_SUPERSLABS="3 (environment)")
            self.expect(run(name, preload, HAKMEM_PROFILE="lean"), PROFILE="lean (environment)",
                        KEEP_SUPERSLABS="7 (hak_conf)", KEEP_FREE_KB="256 (preset)")

    def test_conf_of_the_build(self):
        self.expect_build(run("build"), thp="off (preset)", PROFILE="lean (//configs:conf)",
                          KEEP_SUPERSLABS="9 (//configs:conf)", BORROW="0 (//configs:conf)",
                          KEEP_FREE_KB="256 (preset)", IDLE_WATCH="1 (default)")
        self.expect_build(run("build", HAKMEM_KEEP_SUPERSLABS="3", HAKMEM_THP="on"), thp="on (environment)",
                          KEEP_SUPERSLABS="3 (environment)", BORROW="0 (//configs:conf)")

    def test_own_conf_beats_that_of_the_build(self):
        self.expect_build(run("own_build"), thp="auto (default)", PROFILE="speed (hak_conf)",
                          KEEP_SUPERSLABS="7 (hak_conf)", BORROW="0 (//configs:conf)", KEEP_FREE_KB="4096 (preset)")

    def test_fast_has_the_build_s_and_no_others(self):
        for name in "fast_build", "fast_own_build":
            self.expect_build(run(name, HAKMEM_KEEP_SUPERSLABS="3"), thp="off (fixed in this build)",
                              PROFILE="lean (fixed in this build)", KEEP_SUPERSLABS="9 (fixed in this build)",
                              BORROW="0 (fixed in this build)", KEEP_FREE_KB="256 (fixed in this build)")


if __name__ == "__main__":
    FILES.update(argument.split("=", 1) for argument in sys.argv[1:])
    unittest.main(argv=sys.argv[:1])
