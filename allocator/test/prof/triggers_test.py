#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Profiles of a program that knows nothing of hakmem: at its end, and by signal.

usage: triggers_test.py CHILD CHILD_LINKED_WITHOUT_WRITER HAKMEM_PROF PROFILE=LIBRARY...

triggers_child.c has the program."""

import gzip
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

CHILD, LINKED, TOOL = (os.path.abspath(path) for path in sys.argv[1:4])
LIBRARIES = {name: os.path.abspath(path) for name, path in (argument.split("=") for argument in sys.argv[4:])}
# Every block is sampled and counts once, so the figures are exact.
EXACT = {"HAKMEM_PROF": "1", "HAKMEM_PROF_SAMPLE_KB": "0"}
# The 1,000 blocks that every child holds come before all growth: 0.95 MiB.
BY_GROWTH = {"HAKMEM_PROF_DUMP_GROWTH_MB": "10", **EXACT}
NO_MORE = b"hakmem: no more profiles are written: there are as many as HAKMEM_PROF_DUMP_FILES says\n"
NOTHING = b"hakmem: no profile is written: nothing is sampled without HAKMEM_PROF=1\n"


class Triggers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, library, *arguments, program=CHILD, **settings):
        """The program, preloaded with the library unless that is None, in the test's folder."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HAKMEM_")}
        environment.update(settings)
        if library is not None:
            environment["LD_PRELOAD"] = library
        return subprocess.Popen([program, *arguments], cwd=self.folder, env=environment, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_child(self, library, *arguments, **settings):
        """(the process, what it said on stderr) of a program that ends well."""
        child = self.start(library, *arguments, **settings)
        _, errors = child.communicate()
        self.assertEqual(child.returncode, 0, errors)
        return child, errors

    def files(self):
        return sorted(os.listdir(self.folder))

    def path(self, name):
        return os.path.join(self.folder, name)

    def check(self, name, **wanted):
        """The profile of that name shows so many live blocks of these functions, and is for its owner only."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), 0o600)
        text = subprocess.run([TOOL, "--sample", "inuse_objects", "-n", "0", self.path(name)], stdout=subprocess.PIPE,
                              check=True).stdout.decode()
        for function, count in wanted.items():
            lines = [line for line in text.splitlines() if re.search(r"\b%s\b" % function, line)]
            self.assertEqual(len(lines), 1 if count else 0, text)
            if count:
                self.assertRegex(lines[0].replace(",", ""), r"\b%d\b" % count)

    def each(self):
        for profile, library in LIBRARIES.items():
            print("in", profile)
            for name in self.files():
                os.unlink(self.path(name))
            yield library

    def test_at_the_end(self):
        for library in self.each():
            child, errors = self.run_child(library, "exit", HAKMEM_PROF_DUMP="heap.%p.100%%.pb.gz", **EXACT)
            self.assertEqual(errors, b"")
            self.assertEqual(self.files(), ["heap.%d.100%%.pb.gz" % child.pid])
            self.check(self.files()[0], holds_blocks=1000)

    def test_the_child_of_a_fork_has_its_own(self):
        for library in self.each():
            child, errors = self.run_child(library, "fork", HAKMEM_PROF_DUMP="heap.%p", **EXACT)
            self.assertEqual(errors, b"")
            names = self.files()
            self.assertEqual(len(names), 2, names)
            own = "heap.%d" % child.pid
            names.remove(own)
            self.check(own, holds_blocks=1000, child_holds_blocks=0)
            self.check(names[0], holds_blocks=1000, child_holds_blocks=10)

    def test_not_by_another_end_and_not_unasked(self):
        for library in self.each():
            self.assertEqual(self.run_child(library, "quick", HAKMEM_PROF_DUMP="heap", **EXACT)[1], b"")
            self.assertEqual(self.run_child(library, "exit", **EXACT)[1], b"")
            self.assertEqual(self.run_child(library, "exit", HAKMEM_PROF_DUMP="", **EXACT)[1], b"")
            self.assertEqual(self.files(), [])

    def test_by_signal_in_a_program_that_only_waits(self):
        for library in self.each():
            child = self.start(library, "pause", "4", HAKMEM_DUMP_SIGNAL="SIGUSR2", HAKMEM_PROF_DUMP="h.%n", **EXACT)
            self.assertEqual(child.stdout.readline(), b"ready\n")
            # Numbers whose files exist are passed by.
            with open(self.path("h.1"), "w", encoding="utf-8") as other:
                other.write("other")
            for files in ["h.0", "h.1"], ["h.0", "h.1", "h.2"], ["h.0", "h.1", "h.2", "h.3"]:
                child.send_signal(signal.SIGUSR2)
                self.assertEqual(child.stdout.readline(), b"woken\n")
                # The program made no call since, and has not ended.
                self.assertEqual(self.files(), files)
                self.check(files[-1] if len(files) > 2 else "h.0", holds_blocks=1000)
            child.send_signal(signal.SIGUSR2)
            self.assertEqual((child.communicate()[1], child.returncode), (b"", 0))
            self.assertEqual(self.files(), ["h.%d" % number for number in range(6)], "one at the end")
            with open(self.path("h.1"), encoding="utf-8") as other:
                self.assertEqual(other.read(), "other")

    def test_by_signal_without_a_name(self):
        for library in self.each():
            child = self.start(library, "pause", "1", HAKMEM_DUMP_SIGNAL="SIGHUP", **EXACT)
            self.assertEqual(child.stdout.readline(), b"ready\n")
            child.send_signal(signal.SIGHUP)
            self.assertEqual((child.communicate()[1], child.returncode), (b"", 0))
            self.assertEqual(self.files(), ["hakmem.%d.0.pb.gz" % child.pid])
            self.check(self.files()[0], holds_blocks=1000)

    def test_by_signals_in_the_midst_of_malloc_and_free(self):
        for library in self.each():
            child = self.start(library, "busy", HAKMEM_DUMP_SIGNAL="SIGUSR2", HAKMEM_PROF_DUMP="h.%n", **EXACT)
            self.assertEqual(child.stdout.readline(), b"ready\n")
            for count in range(1, 41):
                child.send_signal(signal.SIGUSR2)
                while len(self.files()) < count:
                    self.assertIsNone(child.poll())
                    time.sleep(0.001)
            self.assertEqual((child.communicate()[1], child.returncode), (b"", 0))
            for name in self.files():
                with gzip.open(self.path(name)) as stream:
                    self.assertGreater(len(stream.read()), 1000)
            self.check("h.%d" % (len(self.files()) - 1), holds_blocks=1000)

    def test_by_growth(self):
        for library in self.each():
            # What becomes due with one block is written by the next allocation. A heap that shrinks and grows to the same
            # size again is not written again.
            child, errors = self.run_child(library, "grow", "40", "-40", "40", "12", **BY_GROWTH)
            self.assertEqual(errors, b"")
            self.assertEqual(self.files(), ["hakmem.%d.%d.pb.gz" % (child.pid, number) for number in range(5)])
            for name, count in zip(self.files(), (10, 20, 30, 0, 50)):
                self.check(name, holds_blocks=1000, grows=count)

    def test_by_growth_and_at_the_end(self):
        for library in self.each():
            errors = self.run_child(library, "grow", "10", HAKMEM_PROF_DUMP="h.%n", **BY_GROWTH)[1]
            self.assertEqual((errors, self.files()), (b"", ["h.0"]), "what is left at the end is written there")
            self.check("h.0", grows=10)
            # As estimated: with a standard deviation of 6 MiB at the end, so nine profiles come and the end's, or a few more
            # or less.
            errors = self.run_child(library, "grow", "200", HAKMEM_PROF_DUMP="e.%n", HAKMEM_PROF="1",
                                    HAKMEM_PROF_DUMP_GROWTH_MB="20")[1]
            self.assertEqual(errors, b"")
            self.assertIn(len([name for name in self.files() if name.startswith("e.")]), range(6, 14))

    def test_so_many_files_and_the_child_of_a_fork_counts_anew(self):
        for library in self.each():
            child, errors = self.run_child(library, "grow", "25", "fork", "60", HAKMEM_PROF_DUMP_FILES="2", **BY_GROWTH)
            self.assertEqual(errors, NO_MORE, "once, by the child")
            own = [name for name in self.files() if name.startswith("hakmem.%d." % child.pid)]
            self.assertEqual((len(own), len(self.files())), (2, 4), self.files())
            # Files that cannot be written count too, so that there are not more lines than that. The last one is the end's.
            errors = self.run_child(library, "grow", "60", HAKMEM_PROF_DUMP_FILES="2", HAKMEM_PROF_DUMP="no/%n", **BY_GROWTH)[1]
            lines = errors.splitlines(True)
            self.assertEqual(lines.count(NO_MORE), 1, errors)
            self.assertEqual(errors.count(b"there is no such folder: no/"), 3, errors)

    def test_every_second(self):
        for library in self.each():
            begin = time.monotonic()
            errors = self.run_child(library, "last", "2", HAKMEM_PROF_DUMP_EVERY_S="1", **EXACT)[1]
            # Of a program that is stopped between its two allocations there may be one more.
            self.assertIn(len(self.files()), range(2, int(time.monotonic() - begin) + 1), errors)
            for name in self.files():
                self.check(name, holds_blocks=1000)
            for name in self.files():
                os.unlink(self.path(name))
            self.assertEqual(self.run_child(library, "last", "1", HAKMEM_PROF_DUMP_EVERY_S="3600", **EXACT)[1], b"")
            self.assertEqual(self.files(), [])

    def test_without_numbers_there_is_only_the_end(self):
        for library in self.each():
            errors = self.run_child(library, "grow", "30", HAKMEM_PROF_DUMP="h.%p", **BY_GROWTH)[1]
            self.assertEqual(errors, b"hakmem: HAKMEM_PROF_DUMP_EVERY_S and HAKMEM_PROF_DUMP_GROWTH_MB have no effect: "
                             b"HAKMEM_PROF_DUMP has no %n\n")
            self.assertEqual(len(self.files()), 1)
            self.check(self.files()[0], grows=30)

    def test_a_handler_of_the_program_stays(self):
        for library in self.each():
            child = self.start(library, "own", HAKMEM_DUMP_SIGNAL="SIGUSR2", **EXACT)
            self.assertEqual(child.communicate(), (b"own\n", b""))
            self.assertEqual(self.files(), [])

    def test_an_ignored_signal_stays_ignored(self):
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.signal(signal.SIGUSR2, signal.SIG_IGN))
        for library in self.each():
            child = self.start(library, "busy", HAKMEM_DUMP_SIGNAL="SIGUSR2", **EXACT)
            self.assertEqual(child.stdout.readline(), b"ready\n")
            child.send_signal(signal.SIGUSR2)
            self.assertEqual(child.communicate()[1], b"hakmem: HAKMEM_DUMP_SIGNAL=SIGUSR2 has no effect: the process "
                             b"was started with this signal ignored\n")
            self.assertEqual((child.returncode, self.files()), (0, []))

    def test_what_cannot_be_written_is_one_line(self):
        os.symlink("elsewhere", self.path("link"))
        with open(self.path("file"), "w", encoding="utf-8") as file:
            file.write("precious")
        there = "there is something of that name; %n in HAKMEM_PROF_DUMP numbers the files"
        for name, why in {"no/such/folder/heap": "there is no such folder", "file/heap": "there is no such folder",
                          "file": there, "link": there, "a" * 300: "error 36"}.items():
            for library in LIBRARIES.values():
                errors = self.run_child(library, "exit", HAKMEM_PROF_DUMP=name, **EXACT)[1].decode()
                self.assertEqual(errors, "hakmem: no profile is written: %s: %s\n" % (why, name))
        self.assertEqual(self.files(), ["file", "link"])
        with open(self.path("file"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "precious")

    def test_mistakes_in_the_settings(self):
        for library in self.each():
            errors = self.run_child(library, "exit", HAKMEM_PROF_DUMP="heap", HAKMEM_PROF="0")[1]
            self.assertEqual(errors, NOTHING)
            errors = self.run_child(library, "exit", HAKMEM_DUMP_SIGNAL="SIGKILL", **EXACT)[1]
            self.assertIn(b'HAKMEM_DUMP_SIGNAL="SIGKILL" is not accepted; accepted: off, SIGHUP,', errors)
            errors = self.run_child(library, "exit", HAKMEM_PROF_DUMP="h.%q", **EXACT)[1]
            self.assertEqual(errors, b"hakmem: HAKMEM_PROF_DUMP is not accepted; accepted: a path with %p, %n or %%\n")
            errors = self.run_child(library, "exit", HAKMEM_PROF_DUMP="h" * 1024, **EXACT)[1]
            self.assertEqual(errors, b"hakmem: HAKMEM_PROF_DUMP is not accepted; accepted: up to 1023 bytes\n")
            self.assertEqual(self.files(), [])

    def test_a_signal_while_nothing_is_sampled(self):
        for library in self.each():
            child = self.start(library, "pause", "1", HAKMEM_DUMP_SIGNAL="SIGUSR2")
            self.assertEqual(child.stdout.readline(), b"ready\n")
            child.send_signal(signal.SIGUSR2)
            self.assertEqual((child.communicate()[1], child.returncode, self.files()), (NOTHING, 0, []))

    def test_a_program_without_the_writer_says_so(self):
        for settings in {"HAKMEM_PROF_DUMP": "heap"}, {"HAKMEM_DUMP_SIGNAL": "SIGUSR2"}, {
                "HAKMEM_PROF_DUMP_EVERY_S": "9"}, {"HAKMEM_PROF_DUMP_GROWTH_MB": "9"}:
            errors = self.run_child(None, "exit", program=LINKED, **settings)[1]
            self.assertEqual(errors, b"hakmem: HAKMEM_PROF_DUMP, HAKMEM_PROF_DUMP_* and HAKMEM_DUMP_SIGNAL have no effect: this program is "
                             b"linked without @hakmem//allocator:pprof\n")
        self.assertEqual(self.run_child(None, "exit", program=LINKED)[1], b"")
        self.assertEqual(self.files(), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
