# SPDX-License-Identifier: Apache-2.0
"""What the tests of packages share: starting commands, and a folder for their files."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest


def run(*command, cwd=None, check=False, text=True, **variables):
    """Runs a command and returns it with its output as text or bytes.

    Its environment is only `variables` and a plain PATH. With `check` a failure is an AssertionError.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    environment.update(variables)
    done = subprocess.run([str(word) for word in command], env=environment, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=text, timeout=240)
    if check and done.returncode != 0:
        raise AssertionError((command, done.stdout, done.stderr))
    return done


def files_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def version_of(prefix):
    """The version in the header of an installed tree."""
    header = (prefix / "include/hakmem/hakmem.h").read_text()
    return ".".join(re.findall(r"define HAK_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))


class PackageTest(unittest.TestCase):
    """Has a temporary folder `scratch`, the same for all its tests."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        cls.scratch = pathlib.Path(cls.folder.name).resolve()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()


class DebTest(PackageTest):
    """Has the contents of a Debian package in `root`, and its control file's text in `control`."""

    package = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.root = cls.scratch / "unpacked"
        run("dpkg-deb", "-x", cls.package, cls.root, check=True)
        run("dpkg-deb", "-e", cls.package, cls.scratch / "control", check=True)
        cls.control = (cls.scratch / "control/control").read_text()
