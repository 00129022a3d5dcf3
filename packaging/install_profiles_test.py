#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All profiles installed side by side, and hakmem-run --profile.

usage: install_profiles_test.py INSTALL --source=FILE...
"""

import sys
import unittest

from commands import PackageTest, files_below, run, version_of

INSTALL, SOURCES = sys.argv[1], sys.argv[2:]
PROFILES = ("fast", "standard", "observe", "hardened")
LIBRARY = "lib/hakmem/%s/libhakmem.so.0"


class Profiles(PackageTest):
    def installed(self, name):
        prefix = self.scratch / name
        run(INSTALL, *SOURCES, prefix, check=True)
        return prefix

    def test_each_profile_runs(self):
        prefix = self.installed("prefix")
        version = version_of(prefix)
        for profile in (None,) + PROFILES:
            done = run(prefix / "bin/hakmem-run", *(["--profile", profile] if profile else []), "HAKMEM_SHOW_CONFIG=1",
                       "sh", "-c", "echo $LD_PRELOAD; : | sort")
            self.assertEqual(done.returncode, 0, done)
            library = prefix / (LIBRARY % profile if profile else "lib/libhakmem.so." + version)
            self.assertEqual(done.stdout, "%s\n" % library)
            self.assertIn("hakmem: in use: this process calls hakmem %s %s " % (version, profile or "standard"), done.stderr)

    def test_one_that_is_missing(self):
        prefix = self.installed("missing")
        (prefix / (LIBRARY % "fast")).unlink()
        done = run(prefix / "bin/hakmem-run", "--profile", "fast", "true")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (2, "", "hakmem-run: no libhakmem.so.0 in %s/bin/../lib/hakmem/fast; bazel run //:install_profiles "
                          "installs all\n" % prefix))

    def test_uninstall(self):
        prefix = self.installed("removed")
        self.assertEqual([name for name in files_below(prefix) if name.startswith("lib/hakmem/")],
                         sorted(LIBRARY % profile for profile in PROFILES))
        run(INSTALL, *SOURCES, "--uninstall", prefix, check=True)
        self.assertEqual(files_below(prefix), [])
        self.assertFalse((prefix / "lib/hakmem").exists())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
