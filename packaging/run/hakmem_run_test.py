#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hakmem-run in a tree as it is installed, on programs of every kind.

usage: hakmem_run_test.py HAKMEM_RUN LIBRARY PROGRAM...

The programs' names are program_KIND. A program runs on hakmem if HAKMEM_SHOW_CONFIG=1 says that it is in use.
"""

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

NOBODY = 65534
SHOWN = "hakmem: in use: this process calls hakmem "
NOT_USED = r"\nhakmem: not in use: this process has not called hakmem \d+\.\d+\.\d+ standard header=none\n$"


class HakmemRun(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        # Not below TEST_TMPDIR, because another user must have access.
        cls.folder = tempfile.TemporaryDirectory(prefix="hakmem_run_test.")
        cls.root = pathlib.Path(cls.folder.name).resolve()
        cls.root.chmod(0o755)
        for name in "bin", "lib":
            (cls.root / name).mkdir()
        tool, library, *programs = FILES
        cls.tool = cls.copy(tool, "bin/hakmem-run")
        cls.library = cls.copy(library, "lib/libhakmem.so.0")
        kinds = [os.path.basename(program).partition("_")[2] for program in programs]
        for kind, program in zip(kinds, programs):
            setattr(cls, kind, cls.copy(program, kind))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def copy(cls, source, name):
        target = cls.root / name
        shutil.copyfile(source, target)
        target.chmod(0o755)
        return str(target)

    def write(self, name, content, mode=0o755):
        path = self.root / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def run_tool(self, *arguments, tool=None, user=None, **variables):
        """(status, stdout, stderr) of hakmem-run with HAKMEM_SHOW_CONFIG=1 and these variables in its environment."""
        environment = {"PATH": "/usr/bin:/bin", "HAKMEM_SHOW_CONFIG": "1"}
        environment.update(variables)
        change = (lambda: (os.setgroups([]), os.setgid(user), os.setuid(user))) if user is not None else None
        done = subprocess.run([tool or self.tool, *arguments], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                              preexec_fn=change, cwd=self.root)
        return done.returncode, done.stdout, done.stderr

    def expect_used(self, result, status=42):
        self.assertEqual(result[0], status, result)
        self.assertIn(SHOWN, result[2])
        self.assertNotIn("hakmem-run:", result[2])

    def expect_refused(self, result, reason, status=2):
        """The tool gives the reason in one line, and the program has not run."""
        self.assertEqual(result[0], status, result)
        self.assertEqual(result[1], "")
        self.assertTrue(result[2].startswith("hakmem-run: "), result[2])
        self.assertEqual(result[2].count("\n"), 1, result[2])
        self.assertIn(reason, result[2])

    def expect_unaffected(self, program, reason, status=42, **how):
        """Refused; with -f it runs, and indeed on another malloc."""
        self.expect_refused(self.run_tool(program, **how), reason)
        result = self.run_tool("-f", program, **how)
        self.assertEqual(result[0], status, result)
        self.assertIn(reason, result[2])
        self.assertNotIn(SHOWN, result[2])

    # ---- Programs that run on hakmem ---------------------------------------------------------------

    def test_runs_a_program_on_the_library(self):
        result = self.run_tool(self.dynamic, "-f", "two words", "A=1", "")
        self.expect_used(result)
        self.assertEqual(result[1].splitlines(), [self.dynamic, "-f", "two words", "A=1", ""])

    def test_finds_the_program_by_its_path(self):
        self.expect_used(self.run_tool("dynamic", PATH="/nowhere:%s:/bin" % self.root))
        self.expect_used(self.run_tool("PATH=%s" % self.root, "dynamic"))
        self.expect_used(self.run_tool("./dynamic"))
        self.expect_used(self.run_tool("dynamic", PATH=""), 42)  # an empty part means the current directory

    def test_variables_and_preset(self):
        result = self.run_tool("-p", "lean", "--", "HAKMEM_KEEP_SUPERSLABS=3", "_X1=", self.dynamic, "HAKMEM_BORROW=0")
        self.expect_used(result)
        self.assertIn("hakmem: HAKMEM_PROFILE=lean (environment)\n", result[2])
        self.assertIn("hakmem: HAKMEM_KEEP_SUPERSLABS=3 (environment)\n", result[2])
        self.assertIn("hakmem: HAKMEM_BORROW=1 (default)\n", result[2])
        self.assertEqual(result[1].splitlines(), [self.dynamic, "HAKMEM_BORROW=0"])

    def test_keeps_what_is_preloaded(self):
        show = self.write("show", b"#!/bin/sh\necho \"$LD_PRELOAD\"\n")
        other = self.copy(self.library, "lib/other.so")
        for before, after in (("", self.library), (other, self.library + ":" + other),
                              (other + " " + self.library, other + " " + self.library)):
            self.assertEqual(self.run_tool(show, LD_PRELOAD=before)[1], after + "\n")
            self.assertEqual(self.run_tool("LD_PRELOAD=" + before, show)[1], after + "\n")

    def test_children_use_it_too(self):
        result = self.run_tool("sh", "-c", "exec " + self.dynamic)
        self.assertEqual(result[0], 42)
        self.assertEqual(result[2].count(SHOWN), 2)

    def test_by_a_link_and_from_elsewhere(self):
        link = self.root / "link"
        link.symlink_to(self.tool)
        self.expect_used(self.run_tool(self.dynamic, tool=str(link)))
        elsewhere = self.copy(self.tool, "hakmem-run")
        self.expect_refused(self.run_tool(self.dynamic, tool=elsewhere), "no libhakmem.so.0 in")
        self.expect_used(self.run_tool("-l", "lib/libhakmem.so.0", self.dynamic, tool=elsewhere))

    def test_scripts_are_judged_by_their_interpreter(self):
        self.expect_used(self.run_tool(self.write("s1", b"#!/bin/sh\nexit 42\n")))
        self.expect_used(self.run_tool(self.write("s2", b"#! /usr/bin/env -S A=1 sh\nexit 42\n")))
        self.expect_used(self.run_tool(self.write("s3", b"exit 42\n")))  # without #!: /bin/sh
        self.expect_unaffected(self.write("s4", b"#!%s x\n" % self.static.encode()), self.static + " is statically")
        by_env = self.write("s5", b"#!/usr/bin/env static\n")
        self.expect_refused(self.run_tool(by_env, PATH="%s:/bin" % self.root), self.static + " is statically")
        result = self.run_tool("-f", by_env, PATH="%s:/bin" % self.root)
        # Printed for env, not for what it starts.
        self.assertEqual((result[0], result[2].count(SHOWN)), (42, 1), result)
        self.expect_refused(self.run_tool(self.write("s6", b"#!/nowhere/sh\n")), "/nowhere/sh is not found", 127)
        self.expect_refused(self.run_tool(self.write("s7", b"#!\n")), "without an interpreter", 126)
        self.expect_refused(self.run_tool(self.write("s8", b"#!%s\n" % str(self.root / "s8").encode())), "too many", 126)

    def test_help_and_version(self):
        status, out, err = self.run_tool("-h")
        self.assertEqual((status, out.split("\n")[0][:18], err), (0, "usage: hakmem-run ", ""))
        status, out, err = self.run_tool("-V")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"^hakmem-run \d+\.\d+\.\d+\n$")

    def test_uses_what_it_says(self):
        """The line comes from the first call, behind the settings."""
        lines = self.run_tool(self.dynamic)[2].splitlines()
        self.assertRegex(lines[0], r"^hakmem: version \d+\.\d+\.\d+ standard header=none$")
        self.assertEqual([number for number, line in enumerate(lines) if line.startswith(SHOWN)], [len(lines) - 1])
        self.assertEqual(lines[-1], SHOWN + lines[0].partition("hakmem: version ")[2])
        self.assertNotIn("in use", self.run_tool(self.dynamic, HAKMEM_SHOW_CONFIG="0")[2])

    # ---- Programs that do not ----------------------------------------------------------------------

    def test_usage(self):
        for arguments in [], ["-f"], ["A=1"], ["-p", "lean"], ["-x", "true"], ["-p"], ["--", "A=1"]:
            status, out, err = self.run_tool(*arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn("usage: hakmem-run", err)
        accepted = 'hakmem-run: -p "%s" is not accepted; accepted: balanced, speed, lean'
        self.assertEqual(self.run_tool("-p", "leaner", "true"), (2, "", accepted % "leaner" + "\n"))
        for profile in "fast", "standard", "observe", "hardened":
            self.assertEqual(self.run_tool("-p", profile, "true"),
                             (2, "", "%s; %s is a profile: --profile %s\n" % (accepted % profile, profile, profile)))
        accepted = 'hakmem-run: --profile "%s" is not accepted; accepted: fast, standard, observe, hardened'
        self.assertEqual(self.run_tool("--profile", "hard", "true"), (2, "", accepted % "hard" + "\n"))
        self.assertEqual(self.run_tool("--profile=lean", "true"), (2, "", accepted % "lean" + "; lean is a preset: -p lean\n"))
        self.assertEqual(self.run_tool("--profile=fast", "-l", "/bin/sh", "true"),
                         (2, "", "hakmem-run: -l and --profile both name a library\n"))
        self.expect_refused(self.run_tool("-l", "nowhere.so", "true"), "-l nowhere.so: No such file")

    def test_missing_and_not_executable(self):
        self.expect_refused(self.run_tool("no-such-program"), "no-such-program is not found", 127)
        self.expect_refused(self.run_tool("./no-such-program"), "is not found", 127)
        self.expect_refused(self.run_tool(""), "is no name", 127)
        self.expect_refused(self.run_tool("1=2"), "1=2 is not found", 127)  # not the name of a variable
        self.write("data", b"data", 0o644)
        for program in "./data", "data", str(self.root), "lib":
            self.expect_refused(self.run_tool(program, PATH=str(self.root)), "is not an executable file", 126)
        for length in 5, 63, 64:  # nothing after the magic number, a part of the header, no segments
            cut = pathlib.Path(self.dynamic).read_bytes()[:length]
            self.expect_refused(self.run_tool(self.write("cut", cut)), "is cut short", 126)

    def test_static_program(self):
        self.expect_unaffected(self.static, "is statically linked")

    def expect_line(self, program, reason, used, *options, **how):
        """The tool's exact line."""
        line = "hakmem-run: %s %s; hakmem would %s (%s)\n"
        result = self.run_tool(*options, program, **how)
        self.assertEqual(result, (2, "", line % (program, reason, used, "-f runs it all the same")))
        result = self.run_tool("-f", *options, program, **how)
        self.assertEqual(result[0], 42, result)
        self.assertTrue(result[2].startswith(line % (program, reason, used, "running it all the same")), result[2])
        return result[2]

    def test_a_malloc_of_its_own(self):
        reason, used = "brings its own malloc, which comes before that of any library", "not be used"
        bare = bytearray(pathlib.Path(self.own).read_bytes())
        bare[40:48], bare[58:64] = bytes(8), bytes(6)  # no section headers
        for program in self.own, self.write("bare", bytes(bare)):
            shown = self.expect_line(program, reason, used)
            # It loads the library, which does not say that it is in use.
            self.assertIn("hakmem: HAKMEM_PROFILE=balanced (default)\n", shown)
            self.assertNotIn(SHOWN, shown)
            self.assertRegex(shown, NOT_USED)
        script = self.write("own_script", b"#!%s x\n" % self.own.encode())
        self.expect_refused(self.run_tool(script), "hakmem-run: %s %s; hakmem would %s" % (self.own, reason, used))

    def test_an_allocator_for_itself(self):
        used = "get the rest only"
        # Its libraries call hakmem.
        self.assertIn(SHOWN, self.expect_line(self.hidden, "brings its own malloc for itself", used))
        self.assertIn(SHOWN, self.expect_line(self.jemalloc, "brings jemalloc (je_malloc) for itself", used))

    def test_linked_with_hakmem(self):
        reason = "is linked with hakmem, and uses that one: the library is not needed"
        self.assertEqual(self.expect_line(self.hakmem, reason, "not be used").count(SHOWN), 1)

    def test_other_processors_and_libraries(self):
        good = pathlib.Path(self.dynamic).read_bytes()
        self.expect_refused(self.run_tool(self.write("c32", good[:4] + b"\1" + good[5:])), "is a 32-bit program")
        for head, number in ((good[:18] + b"\xf3\0" + good[20:], 243), (good[:5] + b"\2" + good[6:18] + b"\0\x16" + good[20:], 22)):
            self.expect_refused(self.run_tool(self.write("other", head)), "(ELF machine %d)" % number)
        at = good.index(b"/ld-linux-")
        name = b"/ld-musl-x86_64.so.1\0"
        musl = self.write("musl", good[:at] + name + good[at + len(name):])
        self.expect_refused(self.run_tool(musl), "runs on musl")
        self.expect_refused(self.run_tool("-f", musl), "runs on musl")

    def test_a_library_that_ld_preload_cannot_name(self):
        (self.root / "a b").mkdir()
        library = self.copy(self.library, "a b/libhakmem.so.0")
        self.expect_refused(self.run_tool("-l", library, self.dynamic), "a blank or a colon")

    def test_raised_privileges(self):
        if os.getuid() != 0:
            # Only root can create such a file, but every system has one.
            self.expect_refused(self.run_tool("/usr/bin/su"), "is setuid")
            return
        if os.statvfs(self.root).f_flag & os.ST_NOSUID:
            self.skipTest("%s is mounted nosuid, so nothing in it raises privileges" % self.root)
        setuid = self.copy(self.dynamic, "setuid")
        os.chmod(setuid, 0o4755)
        self.expect_used(self.run_tool(setuid))  # the file is root's and the user is root, so no privileges are raised
        self.expect_unaffected(setuid, "is setuid", user=NOBODY)
        unreadable = self.copy(self.dynamic, "unreadable")
        os.chmod(unreadable, 0o4711)
        self.expect_unaffected(unreadable, "is setuid", user=NOBODY)
        setgid = self.copy(self.dynamic, "setgid")
        os.chmod(setgid, 0o2755)
        self.expect_unaffected(setgid, "is setgid", user=NOBODY)
        # Version 2, effective, CAP_NET_BIND_SERVICE permitted: struct vfs_cap_data.
        capable = self.copy(self.dynamic, "capable")
        os.setxattr(capable, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        self.expect_used(self.run_tool(capable))
        self.expect_unaffected(capable, "has file capabilities", user=NOBODY)
        self.expect_used(self.run_tool(self.dynamic, user=NOBODY))
        script = self.write("setuid_script", b"#!/bin/sh\nexit 42\n", 0o4755)
        self.expect_used(self.run_tool(script, user=NOBODY))  # the kernel ignores the bit of a script
        os.chmod(setuid, stat.S_IRWXU)


if __name__ == "__main__":
    FILES = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
