#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_conf accepts and refuses the settings of a build, with the exact lines.

usage: check_conf_test.py CHECK_CONF
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

LISTS = "NAME=VALUE, with a NAME that HAKMEM_SHOW_CONFIG=1 lists"
KIB = "0 to 1048576 KiB, or whole KiB with a suffix: K, M, G, T"

ACCEPTED = [" ", "profile=lean", "HAKMEM_THP=off,keep_superslabs=3 thread_cache_kb=1M", "borrow=no,borrow=yes", "conf_strict=1"]
# Settings, and the lines without their beginning.
REFUSED = {
    "profil=lean": ['"profil=lean" is not accepted; accepted: %s; the nearest is HAKMEM_PROFILE' % LISTS],
    "HAKMEM_KEEP_SUPERSLAB=3": ['"HAKMEM_KEEP_SUPERSLAB=3" is not accepted; accepted: %s; the nearest is HAKMEM_KEEP_SUPERSLABS' % LISTS],
    "xxxxxxxxxxxxxxxx=1": ['"xxxxxxxxxxxxxxxx=1" is not accepted; accepted: %s' % LISTS],
    "lean": ['"lean" is not accepted; accepted: %s; lean is a preset: profile=lean' % LISTS],
    "hardened": ['"hardened" is not accepted; accepted: %s; hardened is a profile, which is chosen when hakmem is built' % LISTS],
    "profile=hardened": ['"profile=hardened" is not accepted; accepted: balanced, speed, lean; hardened is a profile, which is '
                         'chosen when hakmem is built'],
    "thread_cache_kb=2G,borrow=1,thp=maybe": ['"thread_cache_kb=2G" is not accepted; accepted: ' + KIB,
                                              '"thp=maybe" is not accepted; accepted: auto, on, off'],
    # It decides over the mistakes of a process, not over those of a build.
    "conf_strict=1,borrow=2": ['"borrow=2" is not accepted; accepted: 0, 1, off, on, false, true, no, yes'],
    "x" * 4097: ["is not accepted; accepted: up to 4096 bytes"],
}


class CheckConf(unittest.TestCase):

    def run_tool(self, *arguments):
        done = subprocess.run([TOOL, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        return done.returncode, done.stdout, done.stderr

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.header, self.output = pathlib.Path(folder.name, "header"), pathlib.Path(folder.name, "output")
        self.header.write_bytes(b"text\0\n" * 3000)

    def check(self, settings):
        return self.run_tool(settings, str(self.header), str(self.output))

    def test_accepts(self):
        for settings in ACCEPTED:
            self.assertEqual(self.check(settings), (0, "", ""), settings)
            self.assertEqual(self.output.read_bytes(), self.header.read_bytes())
            self.output.unlink()

    def test_refuses(self):
        for settings, lines in REFUSED.items():
            between = " " if lines[0].startswith("is ") else ": "
            expected = "".join("hakmem: //configs:conf%s%s\n" % (between, line) for line in lines)
            self.assertEqual(self.check(settings), (1, "", expected), settings)
            self.assertFalse(self.output.exists())

    def test_failures(self):
        self.assertEqual(self.run_tool("profile=lean"), (2, "", "usage: check_conf SETTINGS HEADER OUTPUT\n"))
        status, _, errors = self.run_tool("profile=lean", str(self.header) + "x", str(self.output))
        self.assertEqual((status, errors), (2, "check_conf: No such file or directory\n"))
        self.assertEqual(self.run_tool("profile=lean", str(self.header), "/dev/full")[0], 2)


if __name__ == "__main__":
    TOOL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
