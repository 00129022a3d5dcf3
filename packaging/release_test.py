#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""release.py on repositories of its own: the same bytes twice, what is in them, and what it refuses.

usage: release_test.py RELEASE BCR_FILE...
"""

import base64
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import unittest

from commands import PackageTest, run

RELEASE, BCR = os.path.abspath(sys.argv[1]), [pathlib.Path(path).resolve() for path in sys.argv[2:]]
HEADER = "#define HAK_VERSION_MAJOR 1\n#define HAK_VERSION_MINOR 2\n#define HAK_VERSION_PATCH 3\n"
MODULE = 'module(\n    name = "hakmem",\n    version = "1.2.3",\n)\n'
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 1.2.3 (2026-01-02)\n\n### Added\n- A thing.\n\n## 1.2.2\n\n- Older.\n"


class Release(PackageTest):
    def git(self, root, *arguments):
        who = {part + "_" + what: value for part in ("GIT_AUTHOR", "GIT_COMMITTER")
               for what, value in (("NAME", "n"), ("EMAIL", "e"), ("DATE", "1700000000 +0300"))}
        return run("git", "-C", root, *arguments, check=True, GIT_CONFIG_NOSYSTEM="1", HOME=self.scratch, **who).stdout

    def repository(self, name, **changed):
        root = self.scratch / name
        files = {"allocator/include/hakmem/hakmem.h": HEADER, "MODULE.bazel": MODULE, "CHANGELOG.md": CHANGELOG, "z": "last\n",
                 "tool": "#!/bin/sh\n", "name with blank": "\0\xff"}
        files.update({".bcr/" + path.name: path.read_text() for path in BCR})
        files.update(changed)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="latin-1")
        (root / "tool").chmod(0o755)
        (root / "link").symlink_to("tool")
        self.git(root, "init", "-q")
        self.git(root, "add", "-A")
        self.git(root, "commit", "-q", "-m", "all")
        return root

    def release(self, root, *arguments, umask=0o022):
        return subprocess.run([RELEASE, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, preexec_fn=lambda: os.umask(umask),
                              env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "BUILD_WORKSPACE_DIRECTORY": str(root),
                                   "BUILD_WORKING_DIRECTORY": str(root), "TZ": "Asia/Tokyo" if umask else "UTC"})

    def test_the_same_bytes_twice_and_what_is_in_them(self):
        one = self.repository("one")
        two = self.scratch / "a" / "longer" / "path"
        self.git(self.scratch, "clone", "-q", one, two)
        # What is not committed is not released.
        (two / "z").write_text("changed\n")
        (two / "new").write_text("new\n")
        said = self.release(one, "--url", "https://example.net/r/")
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        self.assertEqual(self.release(two, "--out", "other", umask=0o077).returncode, 0)
        path = one / "release/hakmem-1.2.3.tar.gz"
        data = path.read_bytes()
        self.assertEqual(data, (two / "other/hakmem-1.2.3.tar.gz").read_bytes())

        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar}
            names = ["hakmem-1.2.3/" + name for name in self.git(one, "ls-files", "-z").split("\0") if name]
            self.assertEqual(list(members), sorted(names))
            self.assertEqual(tar.extractfile("hakmem-1.2.3/z").read(), b"last\n")
            self.assertEqual(tar.extractfile("hakmem-1.2.3/name with blank").read(), b"\0\xff")
            self.assertEqual(members["hakmem-1.2.3/link"].linkname, "tool")
            self.assertEqual({(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members.values()},
                             {(1700000000, 0, 0, "", "")})
            self.assertEqual([name for name in members if members[name].mode == 0o755], ["hakmem-1.2.3/tool"])

        integrity = "sha256-" + base64.b64encode(hashlib.sha256(data).digest()).decode()
        commit = self.git(one, "rev-parse", "HEAD").strip()
        self.assertEqual(said.stdout, """%s
%d files of commit %s
integrity %s

### Added
- A thing.

http_archive(
    name = "hakmem",
    integrity = "%s",
    strip_prefix = "hakmem-1.2.3",
    urls = ["https://example.net/r/hakmem-1.2.3.tar.gz"],
)

http_archive(
    name = "hakmem",
    sha256 = "%s",  # for Bazel 4, which has no integrity
    strip_prefix = "hakmem-1.2.3",
    urls = ["https://example.net/r/hakmem-1.2.3.tar.gz"],
)
""" % (path, len(names), commit, integrity, integrity, hashlib.sha256(data).hexdigest()))

        entry = one / "release/modules/hakmem/1.2.3"
        self.assertEqual(sorted(file.name for file in entry.iterdir()), ["MODULE.bazel", "presubmit.yml", "source.json"])
        self.assertEqual((entry / "MODULE.bazel").read_text(), MODULE)
        self.assertEqual(json.loads((entry / "source.json").read_text()),
                         {"integrity": integrity, "strip_prefix": "hakmem-1.2.3", "url": "https://example.net/r/hakmem-1.2.3.tar.gz"})

    def refused(self, name, why, **changed):
        done = self.release(self.repository(name, **changed))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (1, "", "release: %s\n" % why))

    def test_refused(self):
        self.refused("unreleased", "CHANGELOG.md has changes under Unreleased: rename it to the version (CONTRIBUTING.md, "
                     "A release)", **{"CHANGELOG.md": CHANGELOG.replace("Unreleased\n", "Unreleased\n- More.\n")})
        self.refused("section", "CHANGELOG.md has no section ## 1.2.3", **{"CHANGELOG.md": CHANGELOG.replace("1.2.3", "1.2.4")})
        self.refused("module", "MODULE.bazel has version 1.2.4, and hakmem.h 1.2.3: tools/version.py writes one into all files",
                     **{"MODULE.bazel": MODULE.replace("1.2.3", "1.2.4")})
        self.refused("header", "allocator/include/hakmem/hakmem.h does not tell the version",
                     **{"allocator/include/hakmem/hakmem.h": ""})
        usage = (2, "", "usage: bazel run //packaging:release -- [--url URL] [--out FOLDER] [COMMIT]\n")
        for arguments in ("--what",), ("HEAD", "HEAD"), ("",), ("--url",):
            done = self.release(self.scratch, *arguments)
            self.assertEqual((done.returncode, done.stdout, done.stderr), usage, arguments)

    def test_an_unknown_commit(self):
        done = self.release(self.repository("unknown"), "nonsense")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"\Arelease: fatal: .*\n\Z")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
